// SPDX-License-Identifier: Apache-2.0
#include "tests/support/recording_device.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "format/layout.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

namespace {

constexpr std::size_t kStep = std::size_t{1} << 20;

// Memory devices fail only when a test asks for nonsense.
void must(Status const& status) {
  if (!status) throw std::logic_error("recording device: " + status.error().text());
}

// Changes [at, at + bytes.size()) of `disk`, whole blocks or not.  Bytes behind its end are lost.
void patch(Device& disk, std::uint64_t at, std::span<std::byte const> bytes) {
  if (at >= disk.size()) return;
  bytes = bytes.first(std::min<std::uint64_t>(bytes.size(), disk.size() - at));
  AlignedBuffer block(kBlockSize);
  while (!bytes.empty()) {
    std::uint64_t const start = at / kBlockSize * kBlockSize;
    std::size_t const skip = at - start;
    std::size_t const step = std::min<std::size_t>(bytes.size(), kBlockSize - skip);
    must(disk.read(start, block.span()));
    std::memcpy(block.data() + skip, bytes.data(), step);
    must(disk.write(start, block.span()));
    at += step;
    bytes = bytes.subspan(step);
  }
}

// Calls apply(from, to) for each run of bytes of `effect` that is on the disk.
template <class Apply>
void each_survivor(std::size_t index, Effect const& effect, bool certain, Survives const& survives,
                   Apply apply) {
  if (certain) return apply(std::uint64_t{0}, effect.length);
  for (std::uint64_t at = 0; at < effect.length;) {
    std::uint64_t const from = at;
    while (at < effect.length && survives(index, at)) at += kSectorSize;
    if (at > from)
      apply(from, at);
    else
      at += kSectorSize;
  }
}

std::uint64_t mix(std::uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

}  // namespace

Snapshot take_snapshot(Device& device) {
  Snapshot snapshot{device.size()};
  AlignedBuffer buffer(kStep);
  std::vector<std::byte> const zeroes(kBlockSize);
  for (std::uint64_t at = 0; at < snapshot.size; at += kStep) {
    auto const part = buffer.span().first(std::min<std::uint64_t>(kStep, snapshot.size - at));
    must(device.read(at, part));
    for (std::size_t i = 0; i < part.size(); i += kBlockSize) {
      auto const block = part.subspan(i, kBlockSize);
      if (std::memcmp(block.data(), zeroes.data(), kBlockSize) != 0)
        snapshot.blocks.emplace(at + i, std::vector<std::byte>(block.begin(), block.end()));
    }
  }
  return snapshot;
}

Survives all_survive() {
  return [](std::size_t, std::uint64_t) { return true; };
}

Survives none_survive() {
  return [](std::size_t, std::uint64_t) { return false; };
}

Survives some_survive(std::uint64_t seed) {
  return [seed](std::size_t index, std::uint64_t at) {
    return (mix(mix(seed ^ mix(index)) ^ at) & 1) != 0;
  };
}

std::unique_ptr<Device> replay(Snapshot const& initial, std::span<Effect const> log, std::size_t n,
                               Survives const& survives, std::byte discarded) {
  auto disk = make_memory_device(initial.size, "replay");
  for (auto const& [at, block] : initial.blocks) patch(*disk, at, block);
  n = std::min(n, log.size());
  for (std::size_t i = 0; i < n; ++i) {
    Effect const& effect = log[i];
    // The flush counts only once it has returned; it was logged then.
    bool const certain = effect.durable_at < n;
    switch (effect.kind) {
      case Effect::kFlush: break;
      case Effect::kResize:
        if (certain || survives(i, 0)) must(disk->resize(effect.length));
        break;
      case Effect::kWrite:
        each_survivor(i, effect, certain, survives, [&](std::uint64_t from, std::uint64_t to) {
          patch(*disk, effect.offset + from, std::span(*effect.data).subspan(from, to - from));
        });
        break;
      case Effect::kDiscard:
        each_survivor(i, effect, certain, survives, [&](std::uint64_t from, std::uint64_t to) {
          patch(*disk, effect.offset + from, std::vector<std::byte>(to - from, discarded));
        });
        break;
    }
  }
  return disk;
}

RecordingDevice::RecordingDevice(Device& below) : below_(below), initial_(take_snapshot(below)) {}

RecordingDevice::RecordingDevice(std::unique_ptr<Device> below)
    : owned_(std::move(below)), below_(*owned_), initial_(take_snapshot(below_)) {}

std::size_t RecordingDevice::begin(Effect effect) {
  std::lock_guard const lock(mutex_);
  log_.push_back(std::move(effect));
  return log_.size() - 1;
}

void RecordingDevice::end(std::size_t index, Status const& status) {
  std::lock_guard const lock(mutex_);
  log_[index].returned = status.ok();
}

Status RecordingDevice::write(std::uint64_t offset, std::span<iovec const> parts) {
  auto bytes = std::make_shared<std::vector<std::byte>>();
  for (iovec const& part : parts) {
    auto const* const data = static_cast<std::byte const*>(part.iov_base);
    bytes->insert(bytes->end(), data, data + part.iov_len);
  }
  std::uint64_t const length = bytes->size();
  auto const index = begin({Effect::kWrite, offset, length, std::move(bytes)});
  Status status = below_.write(offset, parts);
  end(index, status);
  return status;
}

Status RecordingDevice::flush() {
  // Only what had returned when the flush began is covered by it: a caller that doesn't wait for
  // its write is told.
  std::vector<std::size_t> covered;
  {
    std::lock_guard const lock(mutex_);
    for (std::size_t i = 0; i < log_.size(); ++i) {
      if (log_[i].returned && log_[i].durable_at == kNever) covered.push_back(i);
    }
  }
  LCFS_TRY(below_.flush());
  std::lock_guard const lock(mutex_);
  std::size_t const index = log_.size();
  log_.push_back({Effect::kFlush, 0, 0, {}, index, true});
  for (std::size_t i : covered) log_[i].durable_at = std::min(log_[i].durable_at, index);
  return Ok{};
}

Status RecordingDevice::discard(std::uint64_t offset, std::uint64_t length) {
  auto const index = begin({Effect::kDiscard, offset, length});
  Status status = below_.discard(offset, length);
  end(index, status);
  return status;
}

Status RecordingDevice::resize(std::uint64_t new_size) {
  auto const index = begin({Effect::kResize, 0, new_size});
  Status status = below_.resize(new_size);
  end(index, status);
  return status;
}

std::vector<Effect> RecordingDevice::log() const {
  std::lock_guard const lock(mutex_);
  return log_;
}

std::size_t RecordingDevice::effects() const {
  std::lock_guard const lock(mutex_);
  return log_.size();
}

void RecordingDevice::restart() {
  initial_ = take_snapshot(below_);
  std::lock_guard const lock(mutex_);
  log_.clear();
}

std::unique_ptr<Device> RecordingDevice::crash_after(std::size_t n,
                                                     Survives const& survives) const {
  return replay(initial_, log(), n, survives);
}

}  // namespace lcfs::test
