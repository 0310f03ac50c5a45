// SPDX-License-Identifier: Apache-2.0
#include "tests/support/faulty_device.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "device/checks.h"
#include "format/layout.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

void FaultyDevice::fail_effect(std::uint64_t nth, int sys, Repeat repeat, unsigned kinds) {
  std::lock_guard const lock(mutex_);
  effect_plan_ = Plan{nth, kinds, sys, repeat};
  fired_ = false;
}

void FaultyDevice::tear_write(std::uint64_t nth, std::uint64_t bytes, int sys, Repeat repeat) {
  std::lock_guard const lock(mutex_);
  effect_plan_ = Plan{nth, kWrites, sys, repeat, bytes};
  fired_ = false;
}

void FaultyDevice::fail_read(std::uint64_t nth, int sys, Repeat repeat) {
  std::lock_guard const lock(mutex_);
  read_plan_ = Plan{nth, kAllEffects, sys, repeat};
  fired_ = false;
}

void FaultyDevice::corrupt_reads(std::uint64_t offset, std::uint64_t length, std::byte mask) {
  std::lock_guard const lock(mutex_);
  corruption_ = Corruption{offset, length, mask};
  fired_ = false;
}

void FaultyDevice::heal() {
  std::lock_guard const lock(mutex_);
  effect_plan_.reset();
  read_plan_.reset();
  corruption_.reset();
}

bool FaultyDevice::fired() const {
  std::lock_guard const lock(mutex_);
  return fired_;
}

std::uint64_t FaultyDevice::effects() const {
  std::lock_guard const lock(mutex_);
  return effects_;
}

std::uint64_t FaultyDevice::reads() const {
  std::lock_guard const lock(mutex_);
  return reads_;
}

std::optional<FaultyDevice::Plan> FaultyDevice::strike(std::optional<Plan>& plan,
                                                       std::uint64_t& count, unsigned kind) {
  std::lock_guard const lock(mutex_);
  ++count;
  if (!plan || (plan->kinds & kind) == 0) return std::nullopt;
  if (plan->countdown > 0) {
    --plan->countdown;
    return std::nullopt;
  }
  fired_ = true;
  Plan const now = *plan;
  if (now.repeat == Repeat::kOnce) {
    plan.reset();
  } else if (now.torn_bytes) {
    plan->torn_bytes.reset();
    plan->kinds = kAllEffects;
  }
  return now;
}

std::optional<Error> FaultyDevice::refuse(unsigned kind, std::uint64_t offset) {
  if (auto const plan = strike(effect_plan_, effects_, kind))
    return Error::io("refused", plan->sys).in(name()).at(offset);
  return std::nullopt;
}

Status FaultyDevice::read(std::uint64_t offset, std::span<std::byte> into) {
  if (auto const plan = strike(read_plan_, reads_, kAllEffects)) {
    std::fill(into.begin(), into.end(), std::byte{0xa5});
    return Error::io("refused to read", plan->sys).in(name()).at(offset);
  }
  LCFS_TRY(below_.read(offset, into));
  std::lock_guard const lock(mutex_);
  if (!corruption_) return Ok{};
  for (std::size_t i = 0; i < into.size(); ++i) {
    std::uint64_t const at = offset + i;
    if (at < corruption_->offset || at - corruption_->offset >= corruption_->length) continue;
    into[i] ^= corruption_->mask;
    fired_ = true;
  }
  return Ok{};
}

// The first `bytes` bytes of the write, the last block of them mended from what was there.
Status FaultyDevice::write_head(std::uint64_t offset, std::span<iovec const> parts,
                                std::uint64_t bytes) {
  std::vector<std::byte> all;
  for (iovec const& part : parts) {
    auto const* const data = static_cast<std::byte const*>(part.iov_base);
    all.insert(all.end(), data, data + part.iov_len);
  }
  bytes = std::min<std::uint64_t>(bytes, all.size());
  if (bytes == 0) return Ok{};
  AlignedBuffer head((bytes + kBlockSize - 1) / kBlockSize * kBlockSize);
  LCFS_TRY(below_.read(offset, head.span()));
  std::memcpy(head.data(), all.data(), bytes);
  return below_.write(offset, head.span());
}

Status FaultyDevice::write(std::uint64_t offset, std::span<iovec const> parts) {
  auto const plan = strike(effect_plan_, effects_, kWrites);
  if (!plan) return below_.write(offset, parts);
  if (plan->torn_bytes) LCFS_TRY(write_head(offset, parts, *plan->torn_bytes));
  return Error::io("refused to write", plan->sys).in(name()).at(offset);
}

Status FaultyDevice::flush() {
  if (auto error = refuse(kFlushes, kNoOffset)) return *std::move(error);
  return below_.flush();
}

Status FaultyDevice::discard(std::uint64_t offset, std::uint64_t length) {
  if (auto error = refuse(kDiscards, offset)) return *std::move(error);
  return below_.discard(offset, length);
}

Status FaultyDevice::reserve(std::uint64_t offset, std::uint64_t length) {
  if (auto error = refuse(kReserves, offset)) return *std::move(error);
  return below_.reserve(offset, length);
}

Status FaultyDevice::release(std::uint64_t offset, std::uint64_t length) {
  if (auto error = refuse(kReleases, offset)) return *std::move(error);
  return below_.release(offset, length);
}

Status FaultyDevice::resize(std::uint64_t new_size) {
  if (auto error = refuse(kResizes, kNoOffset)) return *std::move(error);
  return below_.resize(new_size);
}

}  // namespace lcfs::test
