// SPDX-License-Identifier: Apache-2.0
// The devices that other tests stand on: the recording one and the failing one keep their word.
#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "device/device.h"
#include "format/layout.h"
#include "tests/support/faulty_device.h"
#include "tests/support/recording_device.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

constexpr std::uint64_t kSize = 64 * kBlockSize;

AlignedBuffer filled(char with, std::size_t blocks = 1) {
  AlignedBuffer buffer(blocks * kBlockSize);
  std::memset(buffer.data(), with, buffer.size());
  return buffer;
}

// The first byte of each sector of a block.
std::string sectors(Device& device, std::uint64_t block) {
  AlignedBuffer buffer(kBlockSize);
  REQUIRE(device.read(block * kBlockSize, buffer.span()));
  std::string out;
  for (std::size_t at = 0; at < kBlockSize; at += kSectorSize) {
    char const c = static_cast<char>(buffer.data()[at]);
    out += c == 0 ? '.' : c;
  }
  return out;
}

void put(Device& device, std::uint64_t block, char with) {
  auto const buffer = filled(with);
  REQUIRE(device.write(block * kBlockSize, buffer.span()));
}

}  // namespace

TEST_CASE(
    "recording device: the log is every write, flush, discard and resize in order, with data") {
  RecordingDevice device(make_memory_device(kSize));
  auto a = filled('a'), b = filled('b', 2);
  std::vector<iovec> const parts{{a.data(), a.size()}, {b.data(), b.size()}};
  REQUIRE(device.write(kBlockSize, parts));
  REQUIRE(device.reserve(0, kSize));
  REQUIRE(device.flush());
  REQUIRE(device.discard(0, 2 * kBlockSize));
  REQUIRE(device.resize(2 * kSize));
  CHECK_FALSE(device.write(100, a.span()));
  auto const log = device.log();
  REQUIRE(log.size() == 5);
  CHECK(log[0].kind == Effect::kWrite);
  CHECK(log[0].offset == kBlockSize);
  REQUIRE(log[0].data->size() == 3 * kBlockSize);
  CHECK((*log[0].data)[kBlockSize - 1] == std::byte{'a'});
  CHECK((*log[0].data)[kBlockSize] == std::byte{'b'});
  CHECK(log[0].durable_at == 1);
  CHECK(log[1].kind == Effect::kFlush);
  CHECK(log[2].kind == Effect::kDiscard);
  CHECK(log[2].length == 2 * kBlockSize);
  CHECK(log[2].durable_at == kNever);
  CHECK(log[3].kind == Effect::kResize);
  CHECK(log[3].length == 2 * kSize);
  CHECK(log[4].returned == false);
}

TEST_CASE(
    "recording device: after a crash what was flushed stands, and of the rest what the test "
    "chooses") {
  auto memory = make_memory_device(kSize);
  put(*memory, 0, 'i');
  put(*memory, 9, 'j');
  RecordingDevice device(std::move(memory));
  put(device, 0, 'a');                                  // 0
  REQUIRE(device.flush());                              // 1
  put(device, 1, 'b');                                  // 2
  put(device, 0, 'c');                                  // 3
  REQUIRE(device.discard(9 * kBlockSize, kBlockSize));  // 4

  CHECK(sectors(*device.crash_after(0), 0) == "iiiiiiii");
  CHECK(sectors(*device.crash_after(1, none_survive()), 0) == "iiiiiiii");
  CHECK(sectors(*device.crash_after(1), 0) == "aaaaaaaa");
  CHECK(sectors(*device.crash_after(2, none_survive()), 0) == "aaaaaaaa");
  auto const none = device.crash_after(5, none_survive());
  CHECK(none->size() == kSize);
  CHECK(sectors(*none, 0) == "aaaaaaaa");
  CHECK(sectors(*none, 1) == "........");
  CHECK(sectors(*none, 9) == "jjjjjjjj");
  auto const all = device.crash_after(5);
  CHECK(sectors(*all, 0) == "cccccccc");
  CHECK(sectors(*all, 1) == "bbbbbbbb");
  CHECK(sectors(*all, 9) == "........");
  auto const reordered =
      device.crash_after(5, [](std::size_t index, std::uint64_t) { return index == 3; });
  CHECK(sectors(*reordered, 0) == "cccccccc");
  CHECK(sectors(*reordered, 1) == "........");
  auto const torn =
      device.crash_after(5, [](std::size_t, std::uint64_t at) { return at < 3 * kSectorSize; });
  CHECK(sectors(*torn, 0) == "cccaaaaa");
  CHECK(sectors(*torn, 1) == "bbb.....");
  CHECK(sectors(*torn, 9) == "...jjjjj");
  CHECK(sectors(*replay(device.initial(), device.log(), 5, all_survive(), std::byte{'?'}), 9) ==
        "????????");

  // Chance is the same every time, and does both.
  std::set<std::string> seen;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    auto const image = sectors(*device.crash_after(5, some_survive(seed)), 0);
    CHECK(image == sectors(*device.crash_after(5, some_survive(seed)), 0));
    seen.insert(image);
  }
  CHECK(seen.size() > 10);

  device.restart();
  CHECK(device.effects() == 0);
  CHECK(sectors(*device.crash_after(0), 0) == "cccccccc");
}

TEST_CASE("recording device: a flush makes nothing certain that had not returned when it began") {
  // Below the recorder a flush during which someone writes, and a write during which someone
  // flushes.
  struct Meddler final : Device {
    using Device::write;
    std::unique_ptr<Device> memory = make_memory_device(kSize);
    RecordingDevice* above = nullptr;
    bool meddled = false;
    [[nodiscard]] std::string const& name() const override { return memory->name(); }
    [[nodiscard]] std::uint64_t size() const override { return memory->size(); }
    Status read(std::uint64_t o, std::span<std::byte> into) override {
      return memory->read(o, into);
    }
    Status write(std::uint64_t o, std::span<iovec const> parts) override {
      if (o == 4 * kBlockSize) LCFS_TRY(above->flush());
      return memory->write(o, parts);
    }
    Status flush() override {
      if (!std::exchange(meddled, true)) put(*above, 3, 'm');
      return Ok{};
    }
    Status discard(std::uint64_t o, std::uint64_t n) override { return memory->discard(o, n); }
    Status reserve(std::uint64_t, std::uint64_t) override { return Ok{}; }
    Status release(std::uint64_t, std::uint64_t) override { return Ok{}; }
    [[nodiscard]] bool always_backed() const override { return true; }
    Status resize(std::uint64_t n) override { return memory->resize(n); }
  } meddler;
  RecordingDevice device(meddler);
  meddler.above = &device;
  put(device, 2, 'w');
  REQUIRE(device.flush());
  auto const log = device.log();
  REQUIRE(log.size() == 3);  // write, write during the flush, flush
  put(device, 4, 'f');
  REQUIRE(device.log().size() == 5);  // ..., write, flush during it
  CHECK(sectors(*device.crash_after(5, none_survive()), 3) == "mmmmmmmm");
  CHECK(sectors(*device.crash_after(5, none_survive()), 4) == "........");
  REQUIRE(device.flush());
  CHECK(sectors(*device.crash_after(6, none_survive()), 4) == "ffffffff");
  CHECK(sectors(*device.crash_after(3, none_survive()), 2) == "wwwwwwww");
  CHECK(sectors(*device.crash_after(3, none_survive()), 3) == "........");
}

TEST_CASE("recording device: threads may use it at once") {
  RecordingDevice device(make_memory_device(kSize));
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&device, t] {
      for (std::uint64_t i = 0; i < 16; ++i) {
        auto const data = filled(static_cast<char>('a' + t));
        if (!device.write((t * 16 + i) * kBlockSize, data.span()) || !device.flush()) return;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(device.effects() == 128);
  auto const image = device.crash_after(128, none_survive());
  for (std::uint64_t block = 0; block < 64; ++block)
    CHECK(sectors(*image, block) == std::string(8, static_cast<char>('a' + block / 16)));
}

TEST_CASE("faulty device: refuses the nth effect, once or for ever, and does nothing then") {
  for (Repeat repeat : {Repeat::kOnce, Repeat::kForEver}) {
    FaultyDevice device(make_memory_device(kSize));
    device.fail_effect(2, ENOSPC, repeat);
    put(device, 0, 'a');
    REQUIRE(device.flush());
    CHECK_FALSE(device.fired());
    auto const data = filled('b');
    auto const refused = device.write(kBlockSize, data.span());
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::kNoSpace);
    CHECK(refused.error().sys == ENOSPC);
    CHECK(refused.error().offset == kBlockSize);
    CHECK(device.fired());
    CHECK(sectors(device, 1) == "........");
    bool const again = repeat == Repeat::kOnce;
    CHECK(bool(device.discard(0, kBlockSize)) == again);
    CHECK(bool(device.reserve(0, kBlockSize)) == again);
    CHECK(bool(device.release(0, kBlockSize)) == again);
    CHECK(bool(device.resize(kSize)) == again);
    CHECK(bool(device.flush()) == again);
    CHECK(bool(device.write(0, data.span())) == again);
    CHECK(device.effects() == 9);
    device.heal();
    CHECK(device.flush());
  }
}

TEST_CASE("faulty device: a plan counts the kinds it was given") {
  FaultyDevice device(make_memory_device(kSize));
  device.fail_effect(1, EIO, Repeat::kForEver, kFlushes | kDiscards);
  put(device, 0, 'a');
  put(device, 1, 'a');
  CHECK(device.flush());
  put(device, 2, 'a');
  auto const refused = device.discard(0, kBlockSize);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::kIo);
  CHECK_FALSE(device.flush());
  put(device, 3, 'a');
}

TEST_CASE("faulty device: a torn write leaves its first bytes, whole blocks or not") {
  for (std::uint64_t bytes :
       {std::uint64_t{0}, 3 * kSectorSize, kBlockSize + 2 * kSectorSize, std::uint64_t{1} << 40}) {
    CAPTURE(bytes);
    FaultyDevice device(make_memory_device(kSize));
    put(device, 5, 'o');
    put(device, 6, 'o');
    device.tear_write(1, bytes, EIO, Repeat::kForEver);
    put(device, 0, 'a');
    auto const data = filled('n', 2);
    CHECK_FALSE(device.write(5 * kBlockSize, data.span()));
    CHECK(device.fired());
    std::size_t const kept = std::min<std::uint64_t>(bytes, 2 * kBlockSize) / kSectorSize;
    CHECK(sectors(device, 5) + sectors(device, 6) ==
          std::string(kept, 'n') + std::string(16 - kept, 'o'));
    CHECK_FALSE(device.flush());
  }
}

TEST_CASE("faulty device: the nth read fails, or bytes of a range are silently wrong") {
  FaultyDevice device(make_memory_device(kSize));
  put(device, 0, 'a');
  put(device, 1, 'a');
  AlignedBuffer got(2 * kBlockSize);
  device.fail_read(1, EIO);
  CHECK(device.read(0, got.span()));
  auto const refused = device.read(0, got.span());
  REQUIRE_FALSE(refused);
  CHECK(refused.error().sys == EIO);
  CHECK(device.read(0, got.span()));
  CHECK(device.reads() == 3);

  device.corrupt_reads(kBlockSize - 1, 2, std::byte{0x20});
  REQUIRE(device.read(0, got.span()));
  CHECK(got.data()[kBlockSize - 2] == std::byte{'a'});
  CHECK(got.data()[kBlockSize - 1] == std::byte{'A'});
  CHECK(got.data()[kBlockSize] == std::byte{'A'});
  CHECK(got.data()[kBlockSize + 1] == std::byte{'a'});
  CHECK(device.fired());
  device.heal();
  CHECK(sectors(device, 1) == "aaaaaaaa");
}
