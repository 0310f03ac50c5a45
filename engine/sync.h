// SPDX-License-Identifier: Apache-2.0
// Mutexes that clang's -Wthread-safety understands: a mutex owns named fields, and the compiler
// checks it. https://clang.llvm.org/docs/ThreadSafetyAnalysis.html
#pragma once

#include <condition_variable>
#include <mutex>
#include <shared_mutex>

#include "device/wait_hook.h"

#if defined(__clang__)
#define LCFS_TSA(x) __attribute__((x))
#else
#define LCFS_TSA(x)
#endif
#define LCFS_CAPABILITY(x) LCFS_TSA(capability(x))
#define LCFS_SCOPED_CAPABILITY LCFS_TSA(scoped_lockable)
#define LCFS_GUARDED_BY(x) LCFS_TSA(guarded_by(x))
#define LCFS_REQUIRES(...) LCFS_TSA(requires_capability(__VA_ARGS__))
#define LCFS_REQUIRES_SHARED(...) LCFS_TSA(requires_shared_capability(__VA_ARGS__))
#define LCFS_EXCLUDES(...) LCFS_TSA(locks_excluded(__VA_ARGS__))
#define LCFS_ACQUIRE(...) LCFS_TSA(acquire_capability(__VA_ARGS__))
#define LCFS_ACQUIRE_SHARED(...) LCFS_TSA(acquire_shared_capability(__VA_ARGS__))
#define LCFS_RELEASE(...) LCFS_TSA(release_capability(__VA_ARGS__))
#define LCFS_RELEASE_SHARED(...) LCFS_TSA(release_shared_capability(__VA_ARGS__))
#define LCFS_RELEASE_GENERIC(...) LCFS_TSA(release_generic_capability(__VA_ARGS__))
#define LCFS_NO_TSA LCFS_TSA(no_thread_safety_analysis)

namespace lcfs {

class LCFS_CAPABILITY("mutex") Mutex {
 public:
  void lock() LCFS_ACQUIRE() { mu_.lock(); }
  void unlock() LCFS_RELEASE() { mu_.unlock(); }
  std::mutex& native() { return mu_; }

 private:
  std::mutex mu_;
};

// The ones that are held for long: who waits for one says so (device/wait_hook.h).
class LCFS_CAPABILITY("mutex") SharedMutex {
 public:
  void lock() LCFS_ACQUIRE() {
    if (mu_.try_lock()) return;
    about_to_wait();
    mu_.lock();
  }
  void unlock() LCFS_RELEASE() { mu_.unlock(); }
  void lock_shared() LCFS_ACQUIRE_SHARED() {
    if (mu_.try_lock_shared()) return;
    about_to_wait();
    mu_.lock_shared();
  }
  void unlock_shared() LCFS_RELEASE_SHARED() { mu_.unlock_shared(); }

 private:
  std::shared_mutex mu_;
};

class LCFS_SCOPED_CAPABILITY Lock {
 public:
  explicit Lock(Mutex& mu) LCFS_ACQUIRE(mu) : mu_(mu) { mu_.lock(); }
  ~Lock() LCFS_RELEASE() { mu_.unlock(); }
  Lock(Lock const&) = delete;
  Lock& operator=(Lock const&) = delete;
  // Waits on `cv`; the mutex is released meanwhile and held again after.
  void wait(std::condition_variable& cv) {
    about_to_wait();
    std::unique_lock<std::mutex> native(mu_.native(), std::adopt_lock);
    cv.wait(native);
    native.release();
  }

 private:
  Mutex& mu_;
};

class LCFS_SCOPED_CAPABILITY WriteLock {
 public:
  explicit WriteLock(SharedMutex& mu) LCFS_ACQUIRE(mu) : mu_(mu) { mu_.lock(); }
  ~WriteLock() LCFS_RELEASE() { mu_.unlock(); }
  WriteLock(WriteLock const&) = delete;
  WriteLock& operator=(WriteLock const&) = delete;

 private:
  SharedMutex& mu_;
};

class LCFS_SCOPED_CAPABILITY ReadLock {
 public:
  explicit ReadLock(SharedMutex& mu) LCFS_ACQUIRE_SHARED(mu) : mu_(mu) { mu_.lock_shared(); }
  ~ReadLock() LCFS_RELEASE_GENERIC() { mu_.unlock_shared(); }
  ReadLock(ReadLock const&) = delete;
  ReadLock& operator=(ReadLock const&) = delete;

 private:
  SharedMutex& mu_;
};

}  // namespace lcfs
