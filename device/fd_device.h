// SPDX-License-Identifier: Apache-2.0
// Reads, writes and flushes of the two devices that have a file descriptor.  Private to device/.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>

#include "base/fd.h"
#include "device/checks.h"
#include "device/device.h"
#include "format/layout.h"

namespace lcfs::device {

// Thread rule: all members but the atomics are constant after construction.
class FdDevice : public Device {
 public:
  using Device::write;
  [[nodiscard]] std::string const& name() const final { return name_; }
  [[nodiscard]] std::uint64_t size() const final { return size_.load(std::memory_order_acquire); }

  // An error's offset is the first byte that was not transferred.
  Status read(std::uint64_t offset, std::span<std::byte> into) final;
  Status write(std::uint64_t offset, std::span<iovec const> parts) final;
  // After the first failure every flush fails: the kernel reports a lost write once and then
  // forgets the pages, so a later fdatasync that succeeds proves nothing about what was written
  // before.
  Status flush() final;

 protected:
  // Sets O_DIRECT where the file supports it.  `writable`: effects are allowed.
  FdDevice(Fd fd, std::string name, std::uint64_t size, bool writable);

  // The error of a system call on the range at `offset`.
  [[nodiscard]] virtual Error failed(std::uint64_t offset, std::string what, int sys) const;
  // Checks the arguments of a write, discard, reserve or release.
  [[nodiscard]] Status check_effect(std::uint64_t offset, std::uint64_t length) const;

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] bool writable() const { return writable_; }
  // Raises the size to the whole blocks of `size`; never lowers it.
  void grow_size(std::uint64_t size) {
    if (size / format::kBlockSize * format::kBlockSize > this->size())
      set_size(size / format::kBlockSize * format::kBlockSize);
  }
  void set_size(std::uint64_t size) { size_.store(size, std::memory_order_release); }

 private:
  // After an EINVAL of well-formed direct I/O: the file system accepts O_DIRECT, but not in units
  // of a block (its sectors are larger, for example).  Switches to the page cache permanently.
  // False if that was not the cause.
  bool leave_direct(bool was_direct);

  Fd const fd_;
  std::string const name_;
  bool const writable_;
  std::atomic<std::uint64_t> size_;
  std::atomic<bool> direct_{false};
  std::atomic<int> flush_errno_{0};  // of the first flush that failed
};

}  // namespace lcfs::device
