// SPDX-License-Identifier: Apache-2.0
// Calls a function when the machine runs short of memory.
// Source: the kernel's pressure stall information (Linux' Documentation/accounting/psi.rst).  Where
// the kernel does not provide it, the function is never called.
#pragma once

#include <functional>
#include <thread>

namespace lcfs::mount {

class MemoryPressure {
 public:
  // `on_pressure` is called from a thread of this class.
  explicit MemoryPressure(std::function<void()> on_pressure);
  ~MemoryPressure();
  MemoryPressure(MemoryPressure const&) = delete;
  MemoryPressure& operator=(MemoryPressure const&) = delete;

 private:
  void watch();
  std::function<void()> on_pressure_;
  int psi_ = -1, end_ = -1;
  std::thread thread_;
};

}  // namespace lcfs::mount
