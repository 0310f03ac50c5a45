// SPDX-License-Identifier: Apache-2.0
// Where blocks come from: every read, write and flush of a store goes through this interface.
// The engine sees an address space of size() bytes; an implementation (file, block device, memory,
// and in tests one that records or fails) maps it to its storage.
//
// Units are bytes.  Offsets and lengths of read, write, discard, reserve and release are multiples
// of kBlockSize and lie inside [0, size()); buffers are aligned to kBlockSize (AlignedBuffer):
// anything else is Errc::kInvalid.  All functions may be called from any thread at once; ranges of
// concurrent writes must not overlap; a read beside a write gets old or new bytes, mixed.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"

namespace lcfs::device {

class Device {
 public:
  virtual ~Device() = default;
  Device() = default;
  Device(Device const&) = delete;
  Device& operator=(Device const&) = delete;

  // The name for messages: the path as the user gave it.
  [[nodiscard]] virtual std::string const& name() const = 0;
  [[nodiscard]] virtual std::uint64_t size() const = 0;

  // Reads all of `into`, or fails.  Ranges that were never written read as zeroes or as anything;
  // the caller verifies checksums.
  virtual Status read(std::uint64_t offset, std::span<std::byte> into) = 0;

  // Writes the parts, concatenated, at `offset`.  They are durable after the next flush() that
  // starts after write() returned.  After an error the range holds old, new or torn bytes.
  virtual Status write(std::uint64_t offset, std::span<iovec const> parts) = 0;

  // Makes every completed write durable.
  virtual Status flush() = 0;

  // The contents of the range are no longer needed; its storage may be freed.
  virtual Status discard(std::uint64_t offset, std::uint64_t length) = 0;

  // Reserves host space for the range, so that later writes to it cannot fail with ENOSPC (a sparse
  // file on a full host file system).  Errors: kNoSpace, and nothing is reserved.
  virtual Status reserve(std::uint64_t offset, std::uint64_t length) = 0;

  // Releases the reservation of a range that was not written since.
  virtual Status release(std::uint64_t offset, std::uint64_t length) = 0;

  // True when the whole range is always backed, so reserve and release do nothing.
  [[nodiscard]] virtual bool always_backed() const = 0;

  // Reads the size again, in case the volume was extended.  size() never shrinks.
  virtual Status refresh_size() { return {}; }

  // Grows or shrinks the address space (files, memory); kUnsupported for a block device.
  virtual Status resize(std::uint64_t new_size) = 0;

  Status write(std::uint64_t offset, std::span<std::byte const> data);
};

// Owning buffer aligned to kBlockSize; its bytes are uninitialised until written.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t size);  // size: any; memory is rounded up to kBlockSize
  [[nodiscard]] std::byte* data() { return data_.get(); }
  [[nodiscard]] std::byte const* data() const { return data_.get(); }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::span<std::byte> span() { return {data_.get(), size_}; }
  [[nodiscard]] std::span<std::byte const> span() const { return {data_.get(), size_}; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte[], Free> data_;
  std::size_t size_ = 0;
};

enum class Access : std::uint8_t {
  kReadOnly,        // shared lock: other readers may have it open, a writer may not
  kReadWrite,       // exclusive lock
  kReadOnlyNoLock,  // fsck -n of a store in use: its contents may change while they are read
};

// Opens an existing regular file or block device, with direct I/O where supported.  Takes the
// store's lock (see lock.h): if another process holds it, Errc::kBusy with the message "in use by
// pid N".
Result<std::unique_ptr<Device>> open_device(std::string const& path, Access access);

// Creates (O_EXCL) a sparse regular file of `size` bytes, mode 0600, locked like
// open_device(kReadWrite).
Result<std::unique_ptr<Device>> create_file_device(std::string const& path, std::uint64_t size);

// Anonymous memory, zeroed, for tests and tools.
std::unique_ptr<Device> make_memory_device(std::uint64_t size, std::string name = "memory");

}  // namespace lcfs::device
