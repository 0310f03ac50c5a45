// SPDX-License-Identifier: Apache-2.0
// Random lives of stores on a recording device, and the judge of what a power cut left of one: for
// the crash sweeps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/store.h"
#include "tests/support/recording_device.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

// Every layer's name with its files and their contents; images as "image NAME"; the store's size.
using State = std::map<std::string, std::map<std::string, std::string>>;
State state_of(Store& store);

struct Promise {
  std::size_t log = 0;  // effects on the device when the promise was made
  std::uint64_t generation = 0;
};

// What stands between the store and the recorder: a bug to be planted.  It gets the device that the
// store would have had.
using Plant = std::function<std::shared_ptr<Device>(std::shared_ptr<Device> below)>;

// An empty store of 32 MiB in memory.
std::shared_ptr<Device> fresh_disk();

// What a store went through, with its state at every checkpoint that was promised.
class Life {
 public:
  explicit Life(std::shared_ptr<Device> disk, Plant plant = {});

  // Random operations: files; layers made, committed, frozen, squashed, renamed, removed (in use or
  // not); imports by the engine and of whole archives; images tagged and removed; growth; history
  // gone back to, brought back and dropped.
  void live(std::uint64_t seed, int steps);
  // Opens the store and does these one after the other, each of which ends durable.
  void live(std::vector<std::function<void(Store&)>> const& steps);
  // The same by a process that is killed: behind `effects` of its own the device gets nothing from
  // it any more.  The disk goes on, with writes in flight that nobody flushed.
  void live_until_killed(std::size_t effects,
                         std::vector<std::function<void(Store&)>> const& steps);

  [[nodiscard]] RecordingDevice const& recorder() const { return *recorder_; }
  // What is wrong with the disk that a power cut left after n effects; empty: nothing.
  // Asked: fsck finds nothing; the store opens; it is not older than what was promised (I10), and
  // exactly what it was at its checkpoint; the sum of its space is right (I5); kept checkpoints
  // read as they were; and with its newest superblock gone the older one stands, whole too (I1).
  [[nodiscard]] std::string verdict(std::size_t n, std::unique_ptr<Device> disk) const;

 private:
  std::unique_ptr<Store> open(std::shared_ptr<Device> device);
  void go(Store& store, std::vector<std::function<void(Store&)>> const& steps);
  void promise(Store& store);
  void end(Store& store);
  [[nodiscard]] std::string judge(std::shared_ptr<Device> const& disk, std::uint64_t least,
                                  std::string_view fsck_says = "") const;

  std::shared_ptr<Device> disk_;
  std::shared_ptr<RecordingDevice> recorder_;
  std::shared_ptr<Device> seen_;           // by the store
  std::map<std::uint64_t, State> states_;  // by generation
  std::vector<Promise> promises_;
};

// Ways in which a power cut picks among the writes in flight; each with a seed, and the same seed
// gives the same disk.
enum class Cut : std::uint8_t {
  kNone,  // nothing of them
  kAll,
  kSectors,  // each sector by a toss of a coin
  kBlocks,   // each block
  kWrites,   // each write, whole or not at all: so later ones without earlier ones
  kTorn,     // all, but the last one ends at some sector
  kOne,      // one of them alone
  kAllButOne,
};
inline constexpr unsigned kCuts = 8;
// For Life::verdict() at n.
Survives survivors(Cut cut, RecordingDevice const& recorder, std::size_t n, std::uint64_t seed);

}  // namespace lcfs::test
