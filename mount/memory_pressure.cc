// SPDX-License-Identifier: Apache-2.0
#include "mount/memory_pressure.h"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

namespace lcfs::mount {
namespace {

// Some task was stalled on memory for 150 ms of 2 s.  Ordinary users can use windows that are
// multiples of 2 s.
constexpr std::string_view kTrigger = "some 150000 2000000";

}  // namespace

MemoryPressure::MemoryPressure(std::function<void()> on_pressure)
    : on_pressure_(std::move(on_pressure)) {
  psi_ = open("/proc/pressure/memory", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (psi_ < 0) return;
  if (write(psi_, kTrigger.data(), kTrigger.size() + 1) < 0) return;
  end_ = eventfd(0, EFD_CLOEXEC);
  if (end_ >= 0) thread_ = std::thread([this] { watch(); });
}

MemoryPressure::~MemoryPressure() {
  if (thread_.joinable()) {
    eventfd_write(end_, 1);
    thread_.join();
  }
  if (end_ >= 0) close(end_);
  if (psi_ >= 0) close(psi_);
}

void MemoryPressure::watch() {
  pollfd wait[2] = {{psi_, POLLPRI, 0}, {end_, POLLIN, 0}};
  for (;;) {
    if (poll(wait, 2, -1) < 0 && errno != EINTR) return;
    if (wait[1].revents != 0 || (wait[0].revents & POLLERR) != 0) return;
    if ((wait[0].revents & POLLPRI) != 0) {
      on_pressure_();
      malloc_trim(0);
    }
  }
}

}  // namespace lcfs::mount
