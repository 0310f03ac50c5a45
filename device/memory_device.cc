// SPDX-License-Identifier: Apache-2.0
// Anonymous memory as a device: one private mapping, whose pages cost nothing until they are
// written.
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <new>
#include <shared_mutex>
#include <utility>

#include "device/checks.h"
#include "device/device.h"
#include "format/layout.h"

namespace lcfs::device {

namespace {

class Mapping {
 public:
  // Throws std::bad_alloc like any other container.
  explicit Mapping(std::uint64_t size) : bytes_(std::max<std::size_t>(size, format::kBlockSize)) {
    void* p = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    base_ = static_cast<std::byte*>(p);
  }
  Mapping(Mapping const&) = delete;
  Mapping& operator=(Mapping const&) = delete;
  ~Mapping() { ::munmap(base_, bytes_); }

  [[nodiscard]] std::byte* at(std::uint64_t offset) const { return base_ + offset; }

  bool resize(std::uint64_t size) {
    std::size_t const bytes = std::max<std::size_t>(size, format::kBlockSize);
    void* p = ::mremap(base_, bytes_, bytes, MREMAP_MAYMOVE);
    if (p == MAP_FAILED) return false;
    base_ = static_cast<std::byte*>(p);
    bytes_ = bytes;
    return true;
  }

  // The range reads as zeroes from now on and its pages are free.
  void drop(std::uint64_t offset, std::uint64_t length) const {
    if (::madvise(at(offset), length, MADV_DONTNEED) != 0) std::memset(at(offset), 0, length);
  }

 private:
  std::byte* base_ = nullptr;
  std::size_t bytes_ = 0;
};

// Reads that overlap a write get old or new bytes, as on any disk.  The thread sanitizer must not
// report that as a race, but still see all others, so words are copied as relaxed atomics here.
#if defined(__SANITIZE_THREAD__)
void copy_bytes(std::byte* to, std::byte const* from, std::size_t bytes) {
  for (; bytes >= sizeof(std::uint64_t);
       bytes -= sizeof(std::uint64_t), to += sizeof(std::uint64_t), from += sizeof(std::uint64_t)) {
    auto const word =
        __atomic_load_n(reinterpret_cast<std::uint64_t const*>(from), __ATOMIC_RELAXED);
    __atomic_store_n(reinterpret_cast<std::uint64_t*>(to), word, __ATOMIC_RELAXED);
  }
  for (; bytes > 0; --bytes, ++to, ++from)
    __atomic_store_n(to, __atomic_load_n(from, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
}
#else
void copy_bytes(std::byte* to, std::byte const* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}
#endif

class MemoryDevice final : public Device {
 public:
  MemoryDevice(std::uint64_t size, std::string name)
      : name_(std::move(name)), mapping_(size), size_(size) {}

  using Device::write;
  [[nodiscard]] std::string const& name() const override { return name_; }
  [[nodiscard]] std::uint64_t size() const override { return size_; }

  Status read(std::uint64_t offset, std::span<std::byte> into) override {
    std::shared_lock const stays(moving_);
    LCFS_TRY(check_read(name_, size_, offset, into));
    if (!into.empty()) copy_bytes(into.data(), mapping_.at(offset), into.size());
    return Ok{};
  }

  Status write(std::uint64_t offset, std::span<iovec const> parts) override {
    std::shared_lock const stays(moving_);
    LCFS_TRY(check_write(name_, size_, offset, parts));
    for (iovec const& part : parts) {
      if (part.iov_len != 0)
        copy_bytes(mapping_.at(offset), static_cast<std::byte const*>(part.iov_base), part.iov_len);
      offset += part.iov_len;
    }
    return Ok{};
  }

  Status flush() override { return Ok{}; }

  Status discard(std::uint64_t offset, std::uint64_t length) override {
    std::shared_lock const stays(moving_);
    LCFS_TRY(check_range(name_, size_, offset, length));
    if (length != 0) mapping_.drop(offset, length);
    return Ok{};
  }

  Status reserve(std::uint64_t offset, std::uint64_t length) override {
    return check_range(name_, size_, offset, length);
  }
  Status release(std::uint64_t offset, std::uint64_t length) override {
    return check_range(name_, size_, offset, length);
  }
  [[nodiscard]] bool always_backed() const override { return true; }

  Status resize(std::uint64_t new_size) override {
    std::unique_lock const alone(moving_);
    LCFS_TRY(check_new_size(name_, new_size));
    // What a shrink cuts off must not come back with a later growth: the mapping never gets smaller
    // than a block.
    if (new_size < size_) mapping_.drop(new_size, size_ - new_size);
    if (!mapping_.resize(new_size)) return Error::io("cannot resize", ENOMEM).in(name_);
    size_ = new_size;
    return Ok{};
  }

 private:
  std::string const name_;
  std::shared_mutex moving_;  // mapping_: held shared to access its bytes, exclusively by resize,
                              // which may move it
  Mapping mapping_;
  std::atomic<std::uint64_t> size_;  // written under moving_; read anywhere
};

}  // namespace

std::unique_ptr<Device> make_memory_device(std::uint64_t size, std::string name) {
  return std::make_unique<MemoryDevice>(size / format::kBlockSize * format::kBlockSize,
                                        std::move(name));
}

}  // namespace lcfs::device
