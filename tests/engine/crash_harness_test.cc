// SPDX-License-Identifier: Apache-2.0
// Is the judge of tests/engine/crash_test.cc any good?  Engines with a bug, each of which it has to
// catch. The bugs are planted between the engine and the device: what is recorded is what an engine
// with that bug would have written.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "format/node.h"
#include "format/superblock.h"
#include "tests/support/life.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

bool is_slot(std::uint64_t offset) {
  return offset == kSlotBlock[0] * kBlockSize || offset == kSlotBlock[1] * kBlockSize;
}

std::vector<std::byte> bytes_of(std::span<iovec const> parts) {
  std::vector<std::byte> bytes;
  for (auto const& p : parts) {
    auto const* const data = static_cast<std::byte const*>(p.iov_base);
    bytes.insert(bytes.end(), data, data + p.iov_len);
  }
  return bytes;
}

Status write_bytes(Device& device, std::uint64_t offset, std::span<std::byte const> bytes) {
  AlignedBuffer buffer(bytes.size());
  std::memcpy(buffer.data(), bytes.data(), bytes.size());
  return device.write(offset, std::span<std::byte const>(buffer.span()));
}

// A checkpoint flushes twice, and forgets to: the nodes before the superblock (0), or the
// superblock (1).
class NoFlush final : public SharedDevice {
 public:
  NoFlush(std::shared_ptr<Device> below, bool of_superblock)
      : SharedDevice(std::move(below)), of_superblock_(of_superblock) {}
  Status write(std::uint64_t o, std::span<iovec const> parts) override {
    superblock_ = is_slot(o);
    return SharedDevice::write(o, parts);
  }
  Status flush() override {
    return superblock_ == of_superblock_ ? Status{} : SharedDevice::flush();
  }

 private:
  bool const of_superblock_;
  bool superblock_ = false;  // was written last
};

// The superblock first, then what it leads to.
class SuperblockFirst final : public SharedDevice {
 public:
  using SharedDevice::SharedDevice;
  Status read(std::uint64_t o, std::span<std::byte> into) override {
    LCFS_TRY(SharedDevice::read(o, into));
    for (auto const& [at, bytes] : held_) {
      auto const from = std::max(at, o), to = std::min(at + bytes.size(), o + into.size());
      if (from < to) std::memcpy(into.data() + (from - o), bytes.data() + (from - at), to - from);
    }
    return {};
  }
  Status write(std::uint64_t o, std::span<iovec const> parts) override {
    if (!is_slot(o)) {
      held_.emplace_back(o, bytes_of(parts));
      return {};
    }
    LCFS_TRY(SharedDevice::write(o, parts));
    LCFS_TRY(SharedDevice::flush());
    for (auto const& [at, bytes] : std::exchange(held_, {}))
      LCFS_TRY(write_bytes(*below_, at, bytes));
    return {};
  }
  Status flush() override { return held_.empty() ? SharedDevice::flush() : Status{}; }

 private:
  std::vector<std::pair<std::uint64_t, std::vector<std::byte>>> held_;
};

// A block that the checkpoint in the making frees is used again by it: the root of the store tree
// in force (`generations` 0), which every checkpoint replaces; or (1) the one of the slot before,
// which has to stay whole until this one is durable.
class EarlyReuse final : public SharedDevice {
 public:
  EarlyReuse(std::shared_ptr<Device> below, unsigned generations)
      : SharedDevice(std::move(below)), generations_(generations) {}
  Status write(std::uint64_t o, std::span<iovec const> parts) override {
    LCFS_TRY(SharedDevice::write(o, parts));
    wrote_ = !is_slot(o);
    if (wrote_) last_ = bytes_of(parts);
    return {};
  }
  Status flush() override {
    if (std::exchange(wrote_, false)) {
      std::vector<SuperblockInfo> slots;
      for (std::uint32_t s = 0; s < 2; ++s) {
        AlignedBuffer block(kBlockSize);
        LCFS_TRY(SharedDevice::read(kSlotBlock[s] * kBlockSize, block.span()));
        if (auto info = parse_superblock(block.span(), {s, size(), false}))
          slots.push_back(*std::move(info));
      }
      std::sort(slots.begin(), slots.end(),
                [](auto const& a, auto const& b) { return a.generation > b.generation; });
      if (generations_ < slots.size() && slots[generations_].store_root.block.get() != 0)
        LCFS_TRY(write_bytes(*below_, slots[generations_].store_root.block.get() * kBlockSize,
                             std::span{last_}.first(kBlockSize)));
    }
    return SharedDevice::flush();
  }

 private:
  unsigned const generations_;
  bool wrote_ = false;  // something else than a superblock, since the last flush
  std::vector<std::byte> last_;
};

// Each superblock into slot 0, over the one in force.
class OneSlot final : public SharedDevice {
 public:
  using SharedDevice::SharedDevice;
  Status write(std::uint64_t o, std::span<iovec const> parts) override {
    return SharedDevice::write(is_slot(o) ? kSlotBlock[0] * kBlockSize : o, parts);
  }
  Status read(std::uint64_t o, std::span<std::byte> into) override {
    return SharedDevice::read(is_slot(o) ? kSlotBlock[0] * kBlockSize : o, into);
  }
};

// What is freed is discarded at once, while the checkpoint before still names it.
class EarlyDiscard final : public SharedDevice {
 public:
  using SharedDevice::SharedDevice;
  Status write(std::uint64_t o, std::span<iovec const> parts) override {
    if (is_slot(o)) {
      AlignedBuffer block(kBlockSize);
      auto const other = kSlotBlock[0] * kBlockSize + kSlotBlock[1] * kBlockSize - o;
      LCFS_TRY(SharedDevice::read(other, block.span()));
      auto const in_force = parse_superblock(
          block.span(), {other == kSlotBlock[0] * kBlockSize ? 0u : 1u, size(), false});
      if (in_force && in_force->store_root.block.get() != 0)
        LCFS_TRY(SharedDevice::discard(in_force->store_root.block.get() * kBlockSize, kNodeSize));
    }
    return SharedDevice::write(o, parts);
  }
};

// A superblock does not name what was written with it.
class ForgottenRuns final : public SharedDevice {
 public:
  using SharedDevice::SharedDevice;
  Status write(std::uint64_t o, std::span<iovec const> parts) override {
    if (!is_slot(o)) return SharedDevice::write(o, parts);
    auto info = parse_superblock(bytes_of(parts),
                                 {o == kSlotBlock[0] * kBlockSize ? 0u : 1u, size(), false});
    if (!info) return info.error();
    info->written.clear();
    AlignedBuffer block(kBlockSize);
    encode_superblock(*info, std::span<std::byte, kBlockSize>(block.data(), kBlockSize));
    return write_bytes(*below_, o, block.span());
  }
};

// How many of some hundred cuts of a life with the bug are judged wrong; the first verdict.
std::pair<int, std::string> caught(Plant const& plant) {
  int count = 0;
  std::string first;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    Life life(fresh_disk(), plant);
    try {
      life.live(seed, 16);
    } catch (std::runtime_error const& e) {  // it doesn't even live
      if (count++ == 0) first = e.what();
      continue;
    }
    for (std::size_t n = 0; n <= life.recorder().effects(); ++n) {
      auto const cut = static_cast<Cut>(n % kCuts);
      auto verdict = life.verdict(
          n, life.recorder().crash_after(n, survivors(cut, life.recorder(), n, seed * 100 + n)));
      if (verdict.empty()) continue;
      if (count++ == 0) first = std::move(verdict);
    }
  }
  return {count, first};
}

template <class Bug, class... Args>
Plant plant(Args... args) {
  return [=](std::shared_ptr<Device> below) {
    return std::make_shared<Bug>(std::move(below), args...);
  };
}

}  // namespace

TEST_CASE("crash harness: an engine without a bug is not accused") {
  CHECK(caught({}) == std::pair{0, std::string{}});
}

TEST_CASE("crash harness: the bugs it is for are caught") {
  struct Case {
    char const* name;
    Plant plant;
  };
  for (auto const& c : std::vector<Case>{
           {"no flush before the superblock", plant<NoFlush>(false)},
           {"no flush behind the superblock", plant<NoFlush>(true)},
           {"superblock without the runs that were written with it", plant<ForgottenRuns>()},
           {"superblock before what it leads to", plant<SuperblockFirst>()},
           {"block of the checkpoint in force used again", plant<EarlyReuse>(0u)},
           {"block of the checkpoint before used again", plant<EarlyReuse>(1u)},
           {"both superblocks into one slot", plant<OneSlot>()},
           {"freed blocks discarded too early", plant<EarlyDiscard>()}}) {
    auto const found = caught(c.plant);
    INFO(std::string(c.name), ": ", found.first, " states, first: ", found.second);
    CHECK(found.first > 0);
  }
}
