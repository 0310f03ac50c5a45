// SPDX-License-Identifier: Apache-2.0
// fsck against stores made by a writer of the tests' own: sound ones give no finding, and damage to
// superblocks, nodes and blocks is found where it is (broken rules: fsck_rules_test.cc).
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "engine/store.h"
#include "format/hash.h"
#include "fsck/check.h"
#include "tests/fsck/sample_store.h"
#include "tests/support/kept_image.h"
#include "tests/support/raw_store.h"
#include "tests/support/support.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

TEST_CASE("fsck: a sound store gives no finding, and its blocks add up") {
  Sample t;
  t.s.seal();
  t.s.write();
  auto const r = t.check();
  keep_image(t.s.device(), "sound", "store");
  CHECK_MESSAGE(r.findings.empty(), dump(r));
  CHECK(r.clean());
  CHECK(r.in_force == 0);
  CHECK(r.counters.layers == 3);
  CHECK(r.counters.images == 1);
  auto const& c = r.counters;
  CHECK(c.total == c.reserved + c.store_tree + c.layer_nodes + c.layer_data + c.free);
  // Blocks of data: those of the base and the one file of the child; each is read once.
  CHECK(c.data_checked == c.layer_data);
  fsck::Options quick;
  quick.data = false;
  CHECK(t.check(quick).counters.data_checked == 0);
}

TEST_CASE("fsck: an empty store is clean; what is no store is an error, not a finding") {
  RawStore empty;
  empty.write();
  auto const r = fsck::check(empty.device(), {});
  REQUIRE(r);
  CHECK_MESSAGE(r->clean(), dump(*r));
  auto zero = make_memory_device(1 << 20);
  auto const none = fsck::check(*zero, {});
  REQUIRE_FALSE(none);
  CHECK(none.error().code == Errc::kInvalid);
}

TEST_CASE("fsck: each way in which superblocks, nodes and kept checkpoints are damaged is found") {
  using fsck::Code;
  struct Case {
    char const* name;
    void (*before)(Sample&);  // after seal(), before write()
    void (*after)(Sample&);
    Code code;
    char const* text;
  };
  static auto const block_of = [](SuperblockInfo const& info) {
    std::string block(kBlockSize, '\0');
    encode_superblock(info, std::span<std::byte, kBlockSize>(
                                reinterpret_cast<std::byte*>(block.data()), kBlockSize));
    return block;
  };
  // A later checkpoint with the same tree, in the other slot.
  static auto const put_newer = [](Sample& t, auto edit) {
    auto newer = t.s.superblock;
    newer.slot = 1;
    newer.generation = 2;
    edit(newer);
    t.s.put(kSlotBlock[1] * kBlockSize, block_of(newer));
  };
  static auto const put_kept = [](Sample& t, std::uint64_t generation, NodePtr root) {
    KeptCheckpoint k;
    k.generation = generation;
    k.root = root;
    k.text = "layer rm web";
    t.s.store_records[{0, kCheckpoint, generation}] = encode_checkpoint(k);
  };
  static auto const nothing = [](Sample&) {};
  // A leaf of the child that the base has too, or has not.
  static auto const leaf = [](Sample& t, bool inherited) {
    auto const& parents = t.s.layer(t.base).leaves;
    for (auto const& l : t.s.layer(t.child).leaves) {
      if (std::any_of(parents.begin(), parents.end(),
                      [&](auto const& p) { return p.ptr == l.ptr; }) == inherited)
        return l.ptr.block.get() * kBlockSize;
    }
    FAIL("no such leaf");
    return std::uint64_t{0};
  };
  static Case const kCases[] = {
      {"damaged newer slot", nothing,
       [](Sample& t) {
         put_newer(t, [](SuperblockInfo&) {});
         t.s.flip(kSlotBlock[1] * kBlockSize + 0x98);
       },
       Code::kSuperblock, "slot 1: checksum"},
      {"damaged older slot", nothing,
       [](Sample& t) {
         put_newer(t, [](SuperblockInfo&) {});
         t.s.flip(kSlotBlock[0] * kBlockSize + 0x98);
       },
       Code::kSuperblock, "slot 0: checksum"},
      {"one generation twice", nothing,
       [](Sample& t) { put_newer(t, [](SuperblockInfo& i) { i.generation = 1; }); },
       Code::kSuperblock, "generation"},
      {"bytes between the slots", nothing,
       [](Sample& t) { t.s.put(3 * kBlockSize, "left by somebody"); }, Code::kReserved, "not zero"},
      {"inherited leaf", nothing, [](Sample& t) { t.s.flip(leaf(t, true) + 5000); }, Code::kShared,
       ""},
      {"leaf", nothing, [](Sample& t) { t.s.flip(leaf(t, false) + 5000); }, Code::kNode,
       "checksum"},
      {"leaf of another place", nothing,
       [](Sample& t) { t.s.put(leaf(t, false), t.s.read(leaf(t, true), kNodeSize)); }, Code::kNode,
       ""},
      {"leaf of zeroes", nothing,
       [](Sample& t) { t.s.put(leaf(t, false), std::string(kNodeSize, '\0')); }, Code::kNode, ""},
      {"store tree", nothing,
       [](Sample& t) { t.s.flip(t.s.store_nodes.front() * kBlockSize + 5000); }, Code::kNode,
       "checksum"},
      {"checkpoint that is not over", [](Sample& t) { put_kept(t, 7, {}); }, nothing,
       Code::kHistory, "is not finished"},
      {"tree of a kept checkpoint",
       [](Sample& t) {
         t.s.superblock.generation = 5;
         put_kept(t, 2, t.s.layer(t.child).leaves.front().ptr);
       },
       nothing, Code::kHistory, ""},
  };
  for (auto const& c : kCases) {
    CAPTURE(std::string(c.name));
    Sample t;
    t.s.seal();
    c.before(t);
    t.s.write();
    c.after(t);
    auto const r = t.check();
    CHECK_MESSAGE(has(r, c.code, c.text), dump(r));
    keep_image(t.s.device(), fsck::code_name(c.code), c.name);
  }
}

TEST_CASE("fsck: every byte of every block in use matters; damage is found where it is") {
  Sample t;
  t.s.seal();
  t.s.write();
  std::mt19937 random(1);
  // Blocks in use: runs of all layers, nodes of the store tree.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> used;
  for (auto const& [key, value] : t.s.store_records)
    if (key.kind == kRun)
      used.emplace_back(key.offset, parse_run(key, bytes_of(value), 4096)->count);
  for (auto const block : t.s.store_nodes) used.emplace_back(block, kNodeBlocks);
  for (int i = 0; i < 300; ++i) {
    auto const& [start, count] = used[random() % used.size()];
    auto const at = start * kBlockSize + random() % (count * kBlockSize);
    CAPTURE(at);
    auto const bits = static_cast<std::uint8_t>(1u << random() % 8);
    t.s.flip(at, bits);
    auto const r = t.check();
    CHECK_FALSE(r.clean());
    bool near = false;
    for (auto const& f : r.findings)
      near = near || (f.offset != kNoOffset && f.offset / kNodeSize + 2 > at / kNodeSize &&
                      f.offset / kNodeSize < at / kNodeSize + 2);
    CHECK_MESSAGE(near, dump(r));
    t.s.flip(at, bits);
  }
  CHECK(t.check().clean());
}

TEST_CASE("fsck: a damaged node is told once, and every layer that shares it is named") {
  Sample t;
  t.s.seal();
  t.s.write();
  std::uint64_t shared = 0;
  for (auto const& b : t.s.layer(t.base).leaves)
    for (auto const& c : t.s.layer(t.child).leaves)
      if (b.ptr == c.ptr) shared = b.ptr.block.get();
  REQUIRE(shared != 0);
  t.s.flip(shared * kBlockSize + 5000);
  auto const r = t.check();
  CHECK(std::count_if(r.findings.begin(), r.findings.end(),
                      [](auto const& f) { return f.code == fsck::Code::kNode; }) == 1);
  CHECK_MESSAGE(has(r, fsck::Code::kNode, "checksum", "base"), dump(r));
  CHECK_MESSAGE(has(r, fsck::Code::kShared, "", "child"), dump(r));
  CHECK_MESSAGE(has(r, fsck::Code::kShared, "", "clone"), dump(r));
}

TEST_CASE(
    "fsck: superblocks: the greater generation is in force, a damaged slot is told, two stores in "
    "one are told") {
  auto const make = [](Sample& t) {
    t.s.seal();
    t.s.write();
    // The other slot: a later checkpoint that happens to have the same tree.
    auto newer = t.s.superblock;
    newer.slot = 1;
    newer.generation = 2;
    std::string block(kBlockSize, '\0');
    encode_superblock(newer, std::span<std::byte, kBlockSize>(
                                 reinterpret_cast<std::byte*>(block.data()), kBlockSize));
    t.s.put(8 * kBlockSize, block);
    return newer;
  };
  {
    Sample t;
    make(t);
    auto const r = t.check();
    CHECK_MESSAGE(r.clean(), dump(r));
    CHECK(r.in_force == 1);
    t.s.flip(8 * kBlockSize + 0x98);
    auto const damaged = t.check();
    CHECK(damaged.in_force == 0);
    CHECK(damaged.slots[1].state == fsck::SlotState::kDamaged);
    CHECK_MESSAGE(has(damaged, fsck::Code::kSuperblock, "slot 1: checksum"), dump(damaged));
    t.s.flip(0x98);
    auto const none = t.check();
    CHECK_FALSE(none.in_force);
    CHECK_FALSE(none.clean());
  }
  {
    Sample t;
    auto newer = make(t);
    newer.uuid[15] ^= 1;  // the nodes know the first 8 bytes only
    std::string block(kBlockSize, '\0');
    encode_superblock(newer, std::span<std::byte, kBlockSize>(
                                 reinterpret_cast<std::byte*>(block.data()), kBlockSize));
    t.s.put(8 * kBlockSize, block);
    auto const r = t.check();
    CHECK_MESSAGE(has(r, fsck::Code::kSuperblock, "two stores"), dump(r));
  }
}

TEST_CASE("fsck: a superblock that is read while it is being written is read again") {
  struct Torn final : SharedDevice {
    using SharedDevice::SharedDevice;
    Status read(std::uint64_t at, std::span<std::byte> into) override {
      LCFS_TRY(below_->read(at, into));
      if (at == 0 && torn > 0) {
        --torn;
        into[kSlotBlock[1] * kBlockSize + 0x40] ^= std::byte{1};
      }
      return {};
    }
    int torn = 0;
  };
  std::shared_ptr<Device> below = make_memory_device(std::uint64_t{16} << 20);
  must(Store::format(*below, {}));
  must(must(Store::open(std::make_unique<SharedDevice>(below), {}))->checkpoint());
  Torn device(below);
  for (int const torn : {0, 1, 2}) {
    device.torn = torn;
    auto const report = must(fsck::check(device, {}));
    CHECK(report.clean());
    CHECK(report.notes == 0);
  }
  device.torn = 100;
  CHECK(!must(fsck::check(device, {})).clean());
}

TEST_CASE(
    "fsck: stores that the engine writes are clean, layer by layer, closed or left as a crash "
    "leaves them") {
  TempDir const dir;
  auto const path = dir.file("store.lcfs");
  auto const open = [&] {
    auto device = need(open_device(path, Access::kReadWrite));
    return need(Store::open(std::move(device), {}));
  };
  auto const clean = [&](std::uint64_t layers) {
    auto const device = need(open_device(path, Access::kReadOnly));
    auto const r = need(fsck::check(*device, {}));
    CHECK_MESSAGE(r.findings.empty(), dump(r));
    CHECK(r.counters.layers == layers);
    auto const& c = r.counters;
    CHECK(c.total ==
          c.reserved + c.store_tree + c.layer_nodes + c.layer_data + c.dying + c.history + c.free);
  };
  {
    auto const device = need(create_file_device(path, 128ull << 20));
    done(Store::format(*device, {}));
  }
  clean(0);
  std::mt19937 random(1);
  LayerId top = 0;
  for (std::uint64_t round = 0; round < 5; ++round) {
    CAPTURE(round);
    {
      auto store = open();
      top = need(store->create_layer("layer" + std::to_string(round), top));
      auto layer = need(store->layer(top));
      std::vector<Inode> dirs{layer->root()};
      for (int i = 0; i < 200; ++i) {
        auto const at = dirs[random() % dirs.size()];
        auto const name = fmt::format("n{}_{}", round, i);
        auto const kind = random() % 6;
        if (kind == 0)
          dirs.push_back(need(layer->create(at, name, {S_IFDIR | 0755, 1, 2, 0})).inode);
        if (kind == 1) done(layer->symlink(at, name, "to/" + name, {S_IFLNK | 0777, 0, 0, 0}));
        if (kind == 2) done(layer->create(at, name, {S_IFCHR | 0600, 0, 0, 5ull << 32 | 1}));
        if (kind < 3) continue;
        auto const inode = need(layer->create(at, name, {S_IFREG | 0644, 0, 0, 0})).inode;
        auto const data =
            noise(random() % (random() % 2 != 0 ? 3000 : 60000), static_cast<unsigned>(random()));
        done(layer->write(inode, random() % 3 == 0 ? random() % 100000 : 0, bytes_of(data)));
        if (kind == 3) done(layer->link(inode, layer->root(), name + "-hard"));
        if (kind == 4)
          done(layer->setxattr(inode, "user.x", std::string(random() % 20000, 'x'),
                               XattrMode::kAny));
        SetAttr cut;
        cut.size = random() % 50000;
        if (random() % 4 == 0) done(layer->setattr(inode, cut));
        if (random() % 8 == 0)
          done(layer->allocate(inode, Allocate::kKeepSize, random() % 100000, 50000));
        if (random() % 8 == 0)
          done(layer->allocate(inode, Allocate::kPunchHole, random() % 10000, 9000));
      }
      // And what was inherited: removed, renamed, written to.
      std::vector<DirEntry> entries;
      done(layer->readdir(layer->root(), 0,
                          [&](DirEntry const& e) { return entries.push_back(e), true; }));
      for (auto const& e : entries) {
        auto const what = random() % 6;
        if (e.type == S_IFDIR >> 12) continue;
        if (what == 0) done(layer->unlink(layer->root(), e.name));
        if (what == 1)
          done(layer->rename(layer->root(), e.name, dirs.back(), e.name + "-moved",
                             Rename::kReplace));
        if (what == 2 && e.type == S_IFREG >> 12)
          done(layer->write(e.inode, random() % 40000, bytes_of(noise(random() % 9000, 7))));
      }
      auto const unnamed = need(layer->tmpfile({S_IFREG | 0600, 0, 0, 0}));
      done(layer->open(unnamed.inode));
      done(layer->write(unnamed.inode, 0, bytes_of("hello")));
      done(store->checkpoint());
      layer.reset();
      if (round % 2 == 1) done(store->close());
    }
    clean(round + 1);
  }
  done(open()->remove_layer(top));
  clean(4);
}
