// SPDX-License-Identifier: Apache-2.0
// Reading while the device is slow: who waits for it, how often it is asked, and what comes back
// when blocks find another use meanwhile.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <atomic>
#include <functional>
#include <random>
#include <string>
#include <thread>

#include "engine/layer.h"
#include "engine/store.h"
#include "tests/support/test_store.h"

using namespace lcfs;
using lcfs::test::must;
using lcfs::test::SharedDevice;
using lcfs::test::TestStore;

namespace {

// Tells of each read of whole data blocks before it is done; the first of them may be held up.
class SlowDevice final : public SharedDevice {
 public:
  using SharedDevice::SharedDevice;
  Status read(std::uint64_t offset, std::span<std::byte> into) override {
    ++reads;
    if (auto const op = std::exchange(during, nullptr)) op();
    return below_->read(offset, into);
  }
  std::atomic<int> reads{0};
  std::function<void()> during{};  // called once, in the next read, before it is done
};

std::span<std::byte const> bytes(std::string_view s) {
  return std::as_bytes(std::span{s.data(), s.size()});
}

std::shared_ptr<SlowDevice> slow_device() {
  auto device = std::make_shared<SlowDevice>(make_memory_device(64u << 20));
  must(Store::format(*device, {}));
  return device;
}

std::string noise(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::string out(size, ' ');
  for (auto& c : out) c = static_cast<char>(rng());
  return out;
}

std::string text(AlignedBuffer const& buffer, std::size_t n) {
  return {reinterpret_cast<char const*>(buffer.data()), n};
}

}  // namespace

TEST_CASE("read: a writer of the layer does not wait for a cold read") {
  auto const device = slow_device();
  TestStore store(device, {});
  auto layer = must(store->layer(must(store->create_layer("a", 0))));
  Inode const f = must(layer->create(layer->root(), "f", {S_IFREG | 0644})).inode;
  std::string const data = noise(40000, 1);
  must(layer->write(f, 0, bytes(data)));
  must(store->checkpoint());
  bool changed = false;
  device->during = [&] {  // would never return if the reader held the lock
    must(layer->write(f, 0, bytes("changed")));
    must(layer->create(layer->root(), "g", {S_IFREG | 0644}));
    changed = true;
  };
  AlignedBuffer buffer(40960);
  CHECK(must(layer->read(f, 0, buffer.span())) == 40000);
  CHECK(changed);
  CHECK((text(buffer, 40000) == data));  // as it was when the read began
}

TEST_CASE(
    "read: blocks that are freed and used again in the middle of it are not taken for the file's") {
  for (bool const verify : {true, false}) {
    CAPTURE(verify);
    auto const device = slow_device();
    OpenOptions options;
    options.verify_data = verify;
    TestStore store(device, options);
    auto layer = must(store->layer(must(store->create_layer("a", 0))));
    Inode const f = must(layer->create(layer->root(), "f", {S_IFREG | 0644})).inode;
    must(layer->write(f, 0, bytes(noise(8u << 20, 2))));
    must(store->checkpoint());
    constexpr std::uint64_t kAt = 4u << 20;
    auto const was = must(layer->runs(f)).at(0).device_offset + kAt;
    std::string const want = noise(8u << 20, 3);
    bool reused = false;
    device->during = [&] {
      must(layer->write(f, 0, bytes(want)));
      for (int i = 0; i < 60 && !reused; ++i) {  // until the store is full of them
        Inode const g =
            must(layer->create(layer->root(), "g" + std::to_string(i), {S_IFREG | 0644})).inode;
        if (!layer->write(g, 0, bytes(noise(1u << 20, 4)))) break;
        must(store->checkpoint());
        for (auto const& run : must(layer->runs(g)))
          reused |= run.device_offset <= was && was < run.device_offset + run.length;
      }
    };
    AlignedBuffer buffer(131072);
    CHECK(must(layer->read(f, kAt, buffer.span())) == 131072);
    CHECK(reused);
    CHECK((text(buffer, 131072) == want.substr(kAt, 131072)));
  }
}

TEST_CASE(
    "read: clean data side by side is one read of the device, also over the end of the file") {
  auto const device = slow_device();
  TestStore store(device, {});
  auto layer = must(store->layer(must(store->create_layer("a", 0))));
  Inode const f = must(layer->create(layer->root(), "f", {S_IFREG | 0644})).inode;
  std::string const data = noise((3u << 20) + 5000, 5);
  must(layer->write(f, 0, bytes(data)));
  must(store->checkpoint());
  REQUIRE(must(layer->runs(f)).size() == 1);
  AlignedBuffer buffer(4u << 20);
  CHECK(must(layer->read(f, 0, buffer.span())) ==
        data.size());  // nodes are in the cache from here on
  int const before = device->reads;
  CHECK(must(layer->read(f, 0, buffer.span())) == data.size());
  CHECK(device->reads - before == 1);
  CHECK((text(buffer, data.size()) == data));
  // Any offset, any length, any alignment of memory.
  std::mt19937_64 rng(6);
  for (int i = 0; i < 300; ++i) {
    std::size_t const at = rng() % data.size(), n = 1 + rng() % 300000,
                      shift = rng() % 3 == 0 ? 0 : rng() % 4096;
    std::size_t const got = must(layer->read(f, at, buffer.span().subspan(shift, n)));
    REQUIRE(got == std::min(n, data.size() - at));
    REQUIRE((std::string_view(reinterpret_cast<char const*>(buffer.data()) + shift, got) ==
             std::string_view(data).substr(at, got)));
  }
}
