// SPDX-License-Identifier: Apache-2.0
// Notifies the scheduler of the calling thread that the thread is about to wait: for a device, for
// a lock or for a checkpoint.  A server with one thread that takes requests lets another thread
// take over meanwhile.
//
// Threads: the hook is the calling thread's own.  It must not wait itself, and must not throw.
#pragma once

namespace lcfs {

struct WaitHook {
  void (*call)(void*) = nullptr;
  void* with = nullptr;
};

[[nodiscard]] inline WaitHook& wait_hook() {
  thread_local WaitHook hook;
  return hook;
}

// Without a hook it costs one load of a thread-local variable.
inline void about_to_wait() {
  WaitHook const& hook = wait_hook();
  if (hook.call != nullptr) hook.call(hook.with);
}

}  // namespace lcfs
