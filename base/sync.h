// SPDX-License-Identifier: Apache-2.0
// Mutexes that clang's -Wthread-safety understands: a mutex owns named fields, and the compiler
// checks it. https://clang.llvm.org/docs/ThreadSafetyAnalysis.html
//
// Order: a mutex may have a rank.  Debug builds abort when a thread takes a ranked mutex while it
// holds one of the same or a later rank.  The compiler checks the same order inside one function
// (LCFS_ACQUIRED_AFTER); the rank also catches an order that spans several.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <shared_mutex>

#include "base/wait_hook.h"

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
#define LCFS_ACQUIRED_AFTER(...) LCFS_TSA(acquired_after(__VA_ARGS__))
#define LCFS_ACQUIRED_BEFORE(...) LCFS_TSA(acquired_before(__VA_ARGS__))
// On a function that returns a mutex: holding that mutex means holding capability `x`.
#define LCFS_RETURN_CAPABILITY(x) LCFS_TSA(lock_returned(x))
#define LCFS_NO_TSA LCFS_TSA(no_thread_safety_analysis)

namespace lcfs {

// A place in an order of locks: 1 is taken first.  0: no place; the order is not checked.
class LockRank {
 public:
  constexpr LockRank() = default;
  constexpr LockRank(unsigned place, char const* name) : place_(place), name_(name) {}
  [[nodiscard]] constexpr LockRank next(char const* name) const { return {place_ + 1, name}; }
  [[nodiscard]] constexpr unsigned place() const { return place_; }
  [[nodiscard]] constexpr char const* name() const { return name_; }

 private:
  unsigned place_ = 0;  // at most 63
  char const* name_ = "";
};

#if !defined(NDEBUG)
#define LCFS_CHECK_LOCK_ORDER 1
#endif

#if defined(LCFS_CHECK_LOCK_ORDER)
// What a mutex does about its rank.
class RankCheck {
 public:
  constexpr explicit RankCheck(LockRank rank) : rank_(rank) {}
  void taking() const {
    if (rank_.place() == 0 || held() >> rank_.place() == 0) return;
    std::fprintf(stderr, "lcfs: lock order: '%s' (%u) taken while holding ranks 0x%llx\n",
                 rank_.name(), rank_.place(), static_cast<unsigned long long>(held()));
    std::abort();
  }
  void taken() const { held() |= bit(); }
  void released() const { held() &= ~bit(); }

 private:
  [[nodiscard]] std::uint64_t bit() const {
    return rank_.place() == 0 ? 0 : std::uint64_t{1} << rank_.place();
  }
  // Bit n: the calling thread holds a mutex of rank n.
  static std::uint64_t& held() {
    thread_local std::uint64_t ranks = 0;
    return ranks;
  }
  LockRank const rank_;
};
#else
class RankCheck {
 public:
  constexpr explicit RankCheck(LockRank) {}
  static void taking() {}
  static void taken() {}
  static void released() {}
};
#endif

class LCFS_CAPABILITY("mutex") Mutex {
 public:
  constexpr explicit Mutex(LockRank rank = {}) : rank_(rank) {}
  void lock() LCFS_ACQUIRE() {
    rank_.taking();
    mu_.lock();
    rank_.taken();
  }
  void unlock() LCFS_RELEASE() {
    rank_.released();
    mu_.unlock();
  }
  std::mutex& native() { return mu_; }

 private:
  std::mutex mu_;
  [[no_unique_address]] RankCheck rank_;
};

// The ones that are held for long: a thread that must wait for one reports it first
// (base/wait_hook.h).
class LCFS_CAPABILITY("mutex") SharedMutex {
 public:
  explicit SharedMutex(LockRank rank = {}) : rank_(rank) {}
  void lock() LCFS_ACQUIRE() {
    rank_.taking();
    if (!mu_.try_lock()) {
      about_to_wait();
      mu_.lock();
    }
    rank_.taken();
  }
  void unlock() LCFS_RELEASE() {
    rank_.released();
    mu_.unlock();
  }
  void lock_shared() LCFS_ACQUIRE_SHARED() {
    rank_.taking();
    if (!mu_.try_lock_shared()) {
      about_to_wait();
      mu_.lock_shared();
    }
    rank_.taken();
  }
  void unlock_shared() LCFS_RELEASE_SHARED() {
    rank_.released();
    mu_.unlock_shared();
  }

 private:
  std::shared_mutex mu_;
  [[no_unique_address]] RankCheck rank_;
};

// A name for a place in an order of locks that only the compiler sees: other locks are declared to
// come after or before it.
class LCFS_CAPABILITY("lock level") LockLevel {};

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
