// SPDX-License-Identifier: Apache-2.0
// Tells whoever gave the calling thread its work that the thread is about to wait: for a device,
// for a lock that somebody has, for a checkpoint.  A server whose one thread takes all requests
// lets another go on with them meanwhile.
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

// Costs a look at a variable of the thread where nobody wants to know.
inline void about_to_wait() {
  WaitHook const& hook = wait_hook();
  if (hook.call != nullptr) hook.call(hook.with);
}

}  // namespace lcfs
