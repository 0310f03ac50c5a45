// SPDX-License-Identifier: Apache-2.0
// Reads, writes and flushes of the two suppliers that have a file descriptor.  Private to device/.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>

#include "device/checks.h"
#include "device/device.h"
#include "format/layout.h"

namespace lcfs {

// Thread rule: all members but the atomics are constant after construction.
class FdDevice : public Device {
 public:
  using Device::write;
  [[nodiscard]] std::string const& name() const final { return name_; }
  [[nodiscard]] std::uint64_t size() const final { return size_.load(std::memory_order_acquire); }

  // An error's offset is the first byte that was not transferred.
  Status read(std::uint64_t offset, std::span<std::byte> into) final;
  Status write(std::uint64_t offset, std::span<iovec const> parts) final;
  // Once it has failed it fails for ever: the kernel reports a lost write once and then forgets the
  // pages, so a later fdatasync that succeeds proves nothing about what was written before.
  Status flush() final;

 protected:
  // Sets O_DIRECT when the file can have it.  `writable`: effects are allowed.
  FdDevice(Fd fd, std::string name, std::uint64_t size, bool writable);

  // Of a system call on the range at `offset`.
  [[nodiscard]] virtual Error failed(std::uint64_t offset, std::string what, int sys) const;
  // What each effect on a range checks first.
  [[nodiscard]] Status check_effect(std::uint64_t offset, std::uint64_t length) const;

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] bool writable() const { return writable_; }
  // To whole blocks of `size`, unless it is that large already.
  void grow_size(std::uint64_t size) {
    if (size / kBlockSize * kBlockSize > this->size()) set_size(size / kBlockSize * kBlockSize);
  }
  void set_size(std::uint64_t size) { size_.store(size, std::memory_order_release); }

 private:
  // After an EINVAL of well-formed direct I/O: the file system accepts O_DIRECT but can't do it in
  // our units (sectors larger than a block, for one).  Goes on through the page cache, for good.
  // False if that wasn't it.
  bool leave_direct(bool was_direct);

  Fd const fd_;
  std::string const name_;
  bool const writable_;
  std::atomic<std::uint64_t> size_;
  std::atomic<bool> direct_{false};
  std::atomic<int> flush_errno_{0};  // of the first flush that failed
};

}  // namespace lcfs
