// SPDX-License-Identifier: Apache-2.0
// What every supplier of blocks does alike: arguments checked against the contract of device.h,
// errors that say where.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "device/device.h"
#include "format/result.h"

namespace lcfs {

// [offset, offset + length) consists of whole blocks inside [0, size).  An empty range may stand at
// the very end.
Status check_range(std::string const& name, std::uint64_t size, std::uint64_t offset,
                   std::uint64_t length);

// The range is good, and so is the buffer it is read into.
Status check_read(std::string const& name, std::uint64_t size, std::uint64_t offset,
                  std::span<std::byte const> into);

// The range that `parts` fill is good, and so is each of them; returns its length.  Empty parts are
// allowed.
Result<std::uint64_t> check_write(std::string const& name, std::uint64_t size, std::uint64_t offset,
                                  std::span<iovec const> parts);

// A new size for resize(): whole blocks, and a file offset can name its end.
Status check_new_size(std::string const& name, std::uint64_t new_size);

// The error of a system call: kNoSpace for ENOSPC and EDQUOT, else kIo.
Error io_error(std::string const& name, std::uint64_t offset, std::string what, int sys);

// Of an effect on a device that was opened to read.
Error read_only_error(std::string const& name, std::uint64_t offset);

// An open file descriptor, closed at the end of its life.
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

// open(2) with O_CLOEXEC, again after EINTR; -1 and errno like open.
Fd open_fd(std::string const& path, int flags, unsigned mode = 0);

}  // namespace lcfs
