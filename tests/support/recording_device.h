// SPDX-License-Identifier: Apache-2.0
// A device that remembers every effect on the one below it, and the disk that a power cut would
// have left.
//
// Model of the disk: a write may be on it from the moment it begins, and is on it for certain once
// a flush that began after the write returned has itself returned.  Until then each sector of it
// (512 bytes) is there or not, on its own. Writes to the same sector keep their order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "device/device.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

inline constexpr std::uint64_t kSectorSize = 512;
inline constexpr std::size_t kNever = ~std::size_t{0};

struct Effect {
  enum Kind : std::uint8_t { kWrite, kFlush, kDiscard, kResize };
  Kind kind = kWrite;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;                              // kResize: the new size
  std::shared_ptr<std::vector<std::byte> const> data{};  // kWrite: its `length` bytes
  std::size_t durable_at = kNever;  // index in the log of the first flush that made it certain
  bool returned = false;            // it ended, and without an error
};

// What a device held at some time, without its blocks of zeroes.
struct Snapshot {
  std::uint64_t size = 0;
  std::map<std::uint64_t, std::vector<std::byte>> blocks{};  // by byte offset
};
Snapshot take_snapshot(Device& device);

// Whether the sector at byte `at` of effect log[index] reached the disk.  Asked only where it isn't
// certain, perhaps more than once; the answer must then be the same.
using Survives = std::function<bool(std::size_t index, std::uint64_t at)>;
Survives all_survive();
Survives none_survive();
Survives some_survive(
    std::uint64_t seed);  // each sector by a toss of a coin; the same seed, the same answers

// The disk after a power cut that came when log[0..n) had begun and nothing behind it had.
// A memory device of its own, discards that reached it are filled with `discarded`.
std::unique_ptr<Device> replay(Snapshot const& initial, std::span<Effect const> log, std::size_t n,
                               Survives const& survives = all_survive(),
                               std::byte discarded = std::byte{0});

// Thread safe.  Reads and reserves pass without a trace.
class RecordingDevice final : public Device {
 public:
  // Above a device that outlives it ...
  explicit RecordingDevice(Device& below);
  // ... or above one that it owns.
  explicit RecordingDevice(std::unique_ptr<Device> below);

  using Device::write;
  [[nodiscard]] std::string const& name() const override { return below_.name(); }
  [[nodiscard]] std::uint64_t size() const override { return below_.size(); }
  Status read(std::uint64_t offset, std::span<std::byte> into) override {
    return below_.read(offset, into);
  }
  Status write(std::uint64_t offset, std::span<iovec const> parts) override;
  Status flush() override;
  Status discard(std::uint64_t offset, std::uint64_t length) override;
  Status reserve(std::uint64_t offset, std::uint64_t length) override {
    return below_.reserve(offset, length);
  }
  Status release(std::uint64_t offset, std::uint64_t length) override {
    return below_.release(offset, length);
  }
  [[nodiscard]] bool always_backed() const override { return below_.always_backed(); }
  Status refresh_size() override { return below_.refresh_size(); }
  Status resize(std::uint64_t new_size) override;

  [[nodiscard]] std::vector<Effect> log() const;  // data is shared, not copied
  [[nodiscard]] std::size_t effects() const;      // length of the log
  // What the device held when recording began.
  [[nodiscard]] Snapshot const& initial() const { return initial_; }
  // Forgets the log; what the device holds now is the new initial state.  Nothing may be under way.
  void restart();
  // replay() of what was recorded so far.
  [[nodiscard]] std::unique_ptr<Device> crash_after(std::size_t n,
                                                    Survives const& survives = all_survive()) const;

 private:
  std::size_t begin(Effect effect);
  void end(std::size_t index, Status const& status);

  std::unique_ptr<Device> const owned_;
  Device& below_;
  Snapshot initial_;  // changed by restart() only
  mutable std::mutex mutex_;
  std::vector<Effect> log_;  // under mutex_
};

}  // namespace lcfs::test
