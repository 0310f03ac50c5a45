// SPDX-License-Identifier: Apache-2.0
#include "device/fd_device.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <utility>

#include "format/layout.h"

namespace lcfs::device {

namespace {

// A position in the parts of a write: bytes before it are written.
class Cursor {
 public:
  explicit Cursor(std::span<iovec const> parts) : parts_(parts) {}

  // Fills `batch` with the next parts; returns their number.
  std::size_t peek(std::span<iovec> batch) const {
    std::size_t n = 0;
    std::size_t skip = used_;
    for (std::size_t i = part_; i < parts_.size() && n < batch.size(); ++i, skip = 0) {
      if (parts_[i].iov_len == skip) continue;
      batch[n++] =
          iovec{static_cast<std::byte*>(parts_[i].iov_base) + skip, parts_[i].iov_len - skip};
    }
    return n;
  }

  void advance(std::size_t bytes) {
    while (bytes > 0) {
      std::size_t const step = std::min(bytes, parts_[part_].iov_len - used_);
      used_ += step;
      bytes -= step;
      if (used_ == parts_[part_].iov_len) {
        ++part_;
        used_ = 0;
      }
    }
  }

 private:
  std::span<iovec const> parts_;
  std::size_t part_ = 0;  // first part that is not used up
  std::size_t used_ = 0;  // its bytes that are used
};

}  // namespace

FdDevice::FdDevice(Fd fd, std::string name, std::uint64_t size, bool writable)
    : fd_(std::move(fd)), name_(std::move(name)), writable_(writable), size_(size) {
  // Set here and not in open(2), which fails where O_DIRECT is not supported; the descriptor and
  // its lock would be lost.
  int const flags = ::fcntl(fd_.get(), F_GETFL);
  if (flags >= 0 && ::fcntl(fd_.get(), F_SETFL, flags | O_DIRECT) == 0) direct_ = true;
}

bool FdDevice::leave_direct(bool was_direct) {
  if (!was_direct) return false;
  int const flags = ::fcntl(fd_.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd_.get(), F_SETFL, flags & ~O_DIRECT) != 0) return false;
  direct_ = false;
  return true;
}

Status FdDevice::read(std::uint64_t offset, std::span<std::byte> into) {
  LCFS_TRY(check_read(name_, size(), offset, into));
  while (!into.empty()) {
    bool const direct = direct_;
    ssize_t const n = ::pread(fd_.get(), into.data(), into.size(), static_cast<off_t>(offset));
    if (n < 0) {
      if (errno == EINTR || (errno == EINVAL && leave_direct(direct))) continue;
      return failed(offset, fmt::format("cannot read {} bytes", into.size()), errno);
    }
    if (n == 0)
      return failed(offset, fmt::format("ends {} bytes early; was it truncated?", into.size()), 0);
    into = into.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return Ok{};
}

Status FdDevice::write(std::uint64_t offset, std::span<iovec const> parts) {
  if (!writable_) return read_only_error(name_, offset);
  LCFS_TRY_ASSIGN(std::uint64_t left, check_write(name_, size(), offset, parts));
  Cursor cursor{parts};
  // Left uninitialised: 16 KiB, of which most writes need a few bytes.
  std::array<iovec, IOV_MAX> batch;
  while (left > 0) {
    std::size_t const count = cursor.peek(batch);
    bool const direct = direct_;
    ssize_t const n =
        ::pwritev(fd_.get(), batch.data(), static_cast<int>(count), static_cast<off_t>(offset));
    if (n < 0) {
      if (errno == EINTR || (errno == EINVAL && leave_direct(direct))) continue;
      return failed(offset, fmt::format("cannot write {} bytes", left), errno);
    }
    if (n == 0) return failed(offset, fmt::format("cannot write {} bytes", left), EIO);
    cursor.advance(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
    left -= static_cast<std::uint64_t>(n);
  }
  return Ok{};
}

Status FdDevice::flush() {
  if (!writable_) return Ok{};
  if (int const sys = flush_errno_; sys != 0)
    return failed(kNoOffset, "an earlier flush failed, so writes may be lost", sys);
  for (;;) {
    if (::fdatasync(fd_.get()) == 0) break;
    if (errno == EINTR) continue;
    int const sys = errno;
    int none = 0;
    flush_errno_.compare_exchange_strong(none, sys);
    return failed(kNoOffset, "cannot flush", sys);
  }
  // Another thread's flush may have got the report that our writes are lost, while ours got
  // none.
  if (int const sys = flush_errno_; sys != 0) return failed(kNoOffset, "cannot flush", sys);
  return Ok{};
}

Error FdDevice::failed(std::uint64_t offset, std::string what, int sys) const {
  return Error::io(std::move(what), sys).in(name_).at(offset);
}

Status FdDevice::check_effect(std::uint64_t offset, std::uint64_t length) const {
  if (!writable_) return read_only_error(name_, offset);
  return check_range(name_, size(), offset, length);
}

}  // namespace lcfs::device
