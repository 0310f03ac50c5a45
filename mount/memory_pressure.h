// SPDX-License-Identifier: Apache-2.0
// Tells when the machine runs short of memory, by the kernel's pressure stall information
// (Linux' Documentation/accounting/psi.rst).  Where that isn't there, never.
#pragma once

#include <functional>
#include <thread>

namespace lcfs::mount {

class MemoryPressure {
 public:
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
