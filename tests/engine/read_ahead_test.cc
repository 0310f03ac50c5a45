// SPDX-License-Identifier: Apache-2.0
// engine/store/read_ahead.h: what stands beside small files is read once, and never believed when
// it was overwritten.
#include "engine/store/read_ahead.h"

#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "engine/store/metered_device.h"
#include "format/layout.h"
#include "tests/support/support.h"

namespace lcfs {
namespace {

constexpr std::uint64_t kSize = 4u << 20;

// Counts reads; does something in the middle of the next one, after the device was read.
class Spy final : public Device {
 public:
  using Device::write;
  [[nodiscard]] std::string const& name() const override { return below->name(); }
  [[nodiscard]] std::uint64_t size() const override { return below->size(); }
  Status read(std::uint64_t offset, std::span<std::byte> into) override {
    ++reads;
    auto done = below->read(offset, into);
    if (auto const op = std::exchange(after_read, nullptr)) op();
    if (fail_large && into.size() == ReadAheadDevice::kChunk)
      return Error::io("bad sector").in(name()).at(offset);
    return done;
  }
  Status write(std::uint64_t offset, std::span<iovec const> parts) override {
    return below->write(offset, parts);
  }
  Status flush() override { return below->flush(); }
  Status discard(std::uint64_t offset, std::uint64_t length) override {
    return below->discard(offset, length);
  }
  Status reserve(std::uint64_t, std::uint64_t) override { return {}; }
  Status release(std::uint64_t, std::uint64_t) override { return {}; }
  [[nodiscard]] bool always_backed() const override { return true; }
  Status resize(std::uint64_t size) override { return below->resize(size); }

  std::unique_ptr<Device> below = make_memory_device(kSize);
  unsigned reads = 0;
  bool fail_large = false;
  std::function<void()> after_read{};
};

void fill(Device& device, std::uint64_t block, std::uint8_t value) {
  AlignedBuffer bytes(kBlockSize);
  std::memset(bytes.data(), value, kBlockSize);
  REQUIRE(device.write(block * kBlockSize, bytes.span()));
}

std::uint8_t block_of(ReadAheadDevice& device, std::uint64_t block) {
  AlignedBuffer bytes(kBlockSize);
  REQUIRE(device.read_around(block * kBlockSize, bytes.span()));
  CHECK(bytes.data()[0] == bytes.data()[kBlockSize - 1]);
  return static_cast<std::uint8_t>(bytes.data()[0]);
}

}  // namespace

TEST_CASE("read ahead: neighbours are one device read, a write between is seen") {
  Spy spy;
  ReadAheadDevice device(spy, 1u << 20);
  for (std::uint64_t b = 0; b < 32; ++b) fill(device, b, static_cast<std::uint8_t>(b));
  for (std::uint64_t b = 0; b < 32; ++b) CHECK(block_of(device, b) == b);
  CHECK(spy.reads == 1);
  fill(device, 7, 99);
  CHECK(block_of(device, 7) == 99);
  CHECK(block_of(device, 8) == 8);
  CHECK(spy.reads == 2);
  CHECK(device.bytes() == ReadAheadDevice::kChunk);
  device.drop();
  CHECK(device.bytes() == 0);
  CHECK(block_of(device, 8) == 8);
  CHECK(spy.reads == 3);
}

TEST_CASE("read ahead: what is written while its chunk is being read is not forgotten") {
  Spy spy;
  ReadAheadDevice device(spy, 1u << 20);
  fill(device, 3, 1);
  spy.after_read = [&] { fill(device, 3, 2); };  // the chunk was read before this write
  CHECK(block_of(device, 4) == 0);
  CHECK(block_of(device, 3) == 2);
}

TEST_CASE("read ahead: a bad sector in the neighbourhood fails nobody else's read") {
  Spy spy;
  ReadAheadDevice device(spy, 1u << 20);
  fill(device, 5, 5);
  spy.fail_large = true;
  CHECK(block_of(device, 5) == 5);
  CHECK(device.bytes() == 0);
}

TEST_CASE("read ahead: memory stays within its bound, and scattered reads stop it") {
  Spy spy;
  std::uint64_t const most = 4 * ReadAheadDevice::kChunk;
  MeteredDevice* meter = nullptr;
  auto owned = std::make_unique<MeteredDevice>(make_memory_device(256u << 20));
  meter = owned.get();
  ReadAheadDevice device(*meter, most);
  std::mt19937_64 rng(1);
  for (int i = 0; i < 500; ++i) {
    block_of(device, rng() % ((256u << 20) / kBlockSize));
    CHECK(device.bytes() <= most);
  }
  // Every read of a chunk of 128 KiB for a block of 4 would be 64 MiB; it stopped long before.
  CHECK(meter->read_bytes.load() < (16u << 20));
}

TEST_CASE("read ahead: any history of reads and writes reads what was written last") {
  Spy spy;
  ReadAheadDevice device(spy, 3 * ReadAheadDevice::kChunk);
  std::vector<std::uint8_t> model(kSize / kBlockSize);
  std::mt19937_64 rng(7);
  for (int i = 0; i < 20000; ++i) {
    std::uint64_t const block = rng() % model.size();
    if (rng() % 4 == 0) {
      model[block] = static_cast<std::uint8_t>(rng());
      fill(device, block, model[block]);
    } else {
      CHECK(block_of(device, block) == model[block]);
    }
  }
}

TEST_CASE("read ahead: the last chunk of a device may be short") {
  auto below = make_memory_device(ReadAheadDevice::kChunk + kBlockSize);
  ReadAheadDevice device(*below, 1u << 20);
  fill(device, ReadAheadDevice::kChunk / kBlockSize, 9);
  CHECK(block_of(device, ReadAheadDevice::kChunk / kBlockSize) == 9);
}

}  // namespace lcfs
