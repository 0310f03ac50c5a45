// SPDX-License-Identifier: Apache-2.0
// How a checkpoint reaches the device: with one flush or two, and what closing leaves.  Power cuts
// are crash_test's.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <string>

#include "format/superblock.h"
#include "fsck/check.h"
#include "tests/support/life.h"
#include "tests/support/support.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

std::size_t flushes(RecordingDevice const& device) {
  auto const log = device.log();
  return static_cast<std::size_t>(std::count_if(
      log.begin(), log.end(), [](Effect const& e) { return e.kind == Effect::kFlush; }));
}

void write_file(Store& store, LayerId id, std::size_t bytes) {
  auto const layer = must(store.layer(id));
  std::string const data(bytes, 'x');
  auto const inode =
      must(layer->create(layer->root(), "file" + std::to_string(bytes), {S_IFREG | 0644})).inode;
  must(layer->write(inode, 0, std::as_bytes(std::span{data.data(), data.size()})));
}

SuperblockInfo slot_of(Device& device, std::uint32_t slot) {
  AlignedBuffer block(kBlockSize);
  must(device.read(kSlotBlock[slot] * kBlockSize, block.span()));
  return must(parse_superblock(block.span(), {slot, device.size(), false}));
}

}  // namespace

TEST_CASE(
    "checkpoint: a small one flushes once and names what it wrote, one that is too large for that "
    "flushes twice") {
  auto const disk = fresh_disk();
  auto const recorder = std::make_shared<RecordingDevice>(*disk);
  auto const store = must(Store::open(std::make_unique<SharedDevice>(recorder), {}));
  auto const id = must(store->create_layer("l", 0));
  auto const count = [&](std::size_t bytes) {
    write_file(*store, id, bytes);
    auto const before = flushes(*recorder);
    must(store->checkpoint());
    return flushes(*recorder) - before;
  };
  CHECK(count(10'000) == 1);
  auto const written = store->superblock().written;
  CHECK(written.size() >= 3);  // blocks of data, nodes of two trees
  CHECK(written.size() <= kMaxWritten);
  CHECK(count(4'000'000) == 2);
  CHECK(store->superblock().written.empty());
  must(store->close());
}

TEST_CASE(
    "checkpoint: when a store is closed, damage to what it wrote last is told as damage, and the "
    "checkpoint before is still there") {
  auto const disk = fresh_disk();
  {
    auto const store = must(Store::open(std::make_unique<SharedDevice>(disk), {}));
    must(store->create_layer("before", 0));
    must(store->create_layer("last", 0));
    must(store->close());
  }
  auto const a = slot_of(*disk, 0), b = slot_of(*disk, 1);
  auto const& [newer, older] = a.generation > b.generation ? std::pair(a, b) : std::pair(b, a);
  CHECK(newer.written.empty());
  CHECK(older.store_root != newer.store_root);
  AlignedBuffer block(kBlockSize);
  auto const at = newer.store_root.block.get() * kBlockSize;
  must(disk->read(at, block.span()));
  block.data()[100] ^= std::byte{1};
  must(disk->write(at, std::span<std::byte const>(block.span())));
  auto const report = must(fsck::check(*disk, {}));
  CHECK_FALSE(report.clean());
  CHECK(report.superblock->generation == newer.generation);
  // fsck may go back to it.
  std::fill_n(block.data(), kBlockSize, std::byte{0});
  must(disk->write(kSlotBlock[newer.slot] * kBlockSize, std::span<std::byte const>(block.span())));
  auto const store = must(Store::open(std::make_unique<SharedDevice>(disk), {}));
  CHECK(store->find_layer("before"));
}
