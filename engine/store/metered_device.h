// SPDX-License-Identifier: Apache-2.0
// Counts what passes through to the device below.  This is the one place where a store's I/O is
// counted, and where a thread reports that it is about to wait for it (base/wait_hook.h).
//
// Threads: as the device below; counters are atomics, for statistics only but for all_flushed().
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "base/wait_hook.h"
#include "device/device.h"
#include "engine/types.h"

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
    begun_.fetch_add(1);
    count(written_bytes, bytes);
    about_to_wait();
    auto done = below_->write(offset, parts);
    ended_.fetch_add(1);
    return done;
  }
  Status flush() override {
    count(flushes, 1);
    about_to_wait();
    // Covers all writes until now, if none of them is still under way.  `ended` is read first, so
    // it cannot be more than `begun_`.
    auto const ended = ended_.load();
    bool const quiet = begun_.load() == ended;
    LCFS_TRY(below_->flush());
    for (auto was = flushed_.load();
         quiet && was < ended && !flushed_.compare_exchange_weak(was, ended);) {
    }
    return {};
  }
  // True if every completed write has been flushed and none is in flight.
  [[nodiscard]] bool all_flushed() const { return begun_.load() == flushed_.load(); }
  Status discard(std::uint64_t offset, std::uint64_t length) override {
    return below_->discard(offset, length);
  }
  Status reserve(std::uint64_t offset, std::uint64_t length) override {
    return below_->reserve(offset, length);
  }
  Status release(std::uint64_t offset, std::uint64_t length) override {
    return below_->release(offset, length);
  }
  [[nodiscard]] bool always_backed() const override { return below_->always_backed(); }
  Status refresh_size() override { return below_->refresh_size(); }
  Status resize(std::uint64_t new_size) override {
    begun_.fetch_add(1);
    auto done = below_->resize(new_size);
    ended_.fetch_add(1);
    return done;
  }

  std::atomic<std::uint64_t> reads{0}, read_bytes{0}, writes{0}, written_bytes{0}, flushes{0};

 private:
  std::atomic<std::uint64_t> begun_{0}, ended_{0}, flushed_{0};  // writes and changes of size
  static void count(std::atomic<std::uint64_t>& counter, std::uint64_t n) {
    counter.fetch_add(n, std::memory_order_relaxed);
  }
  std::unique_ptr<Device> const below_;
};

}  // namespace lcfs
