// SPDX-License-Identifier: Apache-2.0
// File descriptors that close themselves.
#pragma once

#include <string>
#include <utility>

namespace lcfs {

// An open file descriptor, closed by the destructor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  Fd(Fd const&) = delete;
  Fd& operator=(Fd const&) = delete;
  ~Fd();
  [[nodiscard]] int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// open(2) with O_CLOEXEC, repeated after EINTR; -1 and errno like open.
Fd open_fd(std::string const& path, int flags, unsigned mode = 0);

}  // namespace lcfs
