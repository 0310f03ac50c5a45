// SPDX-License-Identifier: Apache-2.0
// A device that fails on demand.  Effects (write, flush, discard, reserve, release, resize) are
// counted from 0 as they begin, reads by a count of their own.  Thread safe; at most one plan for
// effects and one for reads is in force.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "device/device.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

enum class Repeat : std::uint8_t { kOnce, kForEver };

// Which effects a plan counts; to be or-ed.
enum Effects : unsigned {
  kWrites = 1,
  kFlushes = 2,
  kDiscards = 4,
  kReserves = 8,
  kReleases = 16,
  kResizes = 32,
  kAllEffects = 63,
};

class FaultyDevice final : public Device {
 public:
  explicit FaultyDevice(Device& below) : below_(below) {}
  explicit FaultyDevice(std::unique_ptr<Device> below)
      : owned_(std::move(below)), below_(*owned_) {}

  // Each plan counts from the moment it is made, replaces the one before and clears fired().
  // The nth effect of these kinds is refused with `sys` and does nothing; kForEver: and every one
  // after it.
  void fail_effect(std::uint64_t nth, int sys, Repeat repeat = Repeat::kOnce,
                   unsigned kinds = kAllEffects);
  // Of the nth write the first `bytes` bytes reach the device (any number; more than it has: all),
  // then it fails. kForEver: and every effect of any kind after it is refused.
  void tear_write(std::uint64_t nth, std::uint64_t bytes, int sys, Repeat repeat = Repeat::kOnce);
  // The nth read fails; its buffer is filled with rubbish.
  void fail_read(std::uint64_t nth, int sys, Repeat repeat = Repeat::kOnce);
  // From now on bytes [offset, offset + length), any range, are xor-ed with `mask` whenever they
  // are read.
  void corrupt_reads(std::uint64_t offset, std::uint64_t length, std::byte mask = std::byte{1});
  // No more faults.
  void heal();

  // Whether a fault has struck since the last plan was made.
  [[nodiscard]] bool fired() const;
  // Since construction, those that failed included.
  [[nodiscard]] std::uint64_t effects() const;
  [[nodiscard]] std::uint64_t reads() const;

  using Device::write;
  [[nodiscard]] std::string const& name() const override { return below_.name(); }
  [[nodiscard]] std::uint64_t size() const override { return below_.size(); }
  Status read(std::uint64_t offset, std::span<std::byte> into) override;
  Status write(std::uint64_t offset, std::span<iovec const> parts) override;
  Status flush() override;
  Status discard(std::uint64_t offset, std::uint64_t length) override;
  Status reserve(std::uint64_t offset, std::uint64_t length) override;
  Status release(std::uint64_t offset, std::uint64_t length) override;
  [[nodiscard]] bool always_backed() const override { return below_.always_backed(); }
  Status refresh_size() override { return below_.refresh_size(); }
  Status resize(std::uint64_t new_size) override;

 private:
  struct Plan {
    std::uint64_t countdown = 0;  // matching calls before the first that fails
    unsigned kinds = kAllEffects;
    int sys = 0;
    Repeat repeat = Repeat::kOnce;
    std::optional<std::uint64_t> torn_bytes{};
  };
  struct Corruption {
    std::uint64_t offset = 0, length = 0;
    std::byte mask{};
  };

  // The plan that strikes this call, if one does.
  std::optional<Plan> strike(std::optional<Plan>& plan, std::uint64_t& count, unsigned kind);
  std::optional<Error> refuse(unsigned kind, std::uint64_t offset);
  Status write_head(std::uint64_t offset, std::span<iovec const> parts, std::uint64_t bytes);

  std::unique_ptr<Device> const owned_;
  Device& below_;
  mutable std::mutex mutex_;  // all below; not held while below_ works
  std::optional<Plan> effect_plan_;
  std::optional<Plan> read_plan_;
  std::optional<Corruption> corruption_;
  std::uint64_t effects_ = 0;
  std::uint64_t reads_ = 0;
  bool fired_ = false;
};

}  // namespace lcfs::test
