// SPDX-License-Identifier: Apache-2.0
// Counts what passes through to the device below: the one place where a store's I/O is counted, and where it is said that a thread
// is about to wait for it (device/wait_hook.h).
//
// Threads: as the device below; counters are relaxed atomics, for statistics only.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "device/device.h"
#include "device/wait_hook.h"

namespace lcfs {

class MeteredDevice final : public Device {
 public:
  explicit MeteredDevice(std::unique_ptr<Device> below) : below_(std::move(below)) {}

  using Device::write;
  [[nodiscard]] std::string const& name() const override { return below_->name(); }
  [[nodiscard]] std::uint64_t size() const override { return below_->size(); }
  Status read(std::uint64_t offset, std::span<std::byte> into) override {
    count(reads, 1);
    count(read_bytes, into.size());
    about_to_wait();
    return below_->read(offset, into);
  }
  Status write(std::uint64_t offset, std::span<iovec const> parts) override {
    std::uint64_t bytes = 0;
    for (auto const& p : parts) bytes += p.iov_len;
    count(writes, 1);
    count(written_bytes, bytes);
    about_to_wait();
    return below_->write(offset, parts);
  }
  Status flush() override {
    count(flushes, 1);
    about_to_wait();
    return below_->flush();
  }
  Status discard(std::uint64_t offset, std::uint64_t length) override { return below_->discard(offset, length); }
  Status reserve(std::uint64_t offset, std::uint64_t length) override { return below_->reserve(offset, length); }
  Status release(std::uint64_t offset, std::uint64_t length) override { return below_->release(offset, length); }
  [[nodiscard]] bool always_backed() const override { return below_->always_backed(); }
  Status refresh_size() override { return below_->refresh_size(); }
  Status resize(std::uint64_t new_size) override { return below_->resize(new_size); }

  std::atomic<std::uint64_t> reads{0}, read_bytes{0}, writes{0}, written_bytes{0}, flushes{0};

 private:
  static void count(std::atomic<std::uint64_t>& counter, std::uint64_t n) { counter.fetch_add(n, std::memory_order_relaxed); }
  std::unique_ptr<Device> const below_;
};

}  // namespace lcfs
