// SPDX-License-Identifier: Apache-2.0
// fsck --search: a store whose superblocks or store trees are gone comes back as the newest state
// that is whole.
#include "fsck/tree_search.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "format/node.h"
#include "tests/support/contents.h"
#include "tests/support/layer_files.h"
#include "tests/support/mend.h"
#include "tests/support/support.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

void wipe(Device& device, std::uint64_t block, std::uint64_t count) {
  AlignedBuffer zeroes(count * kBlockSize);
  std::fill_n(zeroes.data(), zeroes.size(), std::byte{0});
  must(device.write(block * kBlockSize, std::span<std::byte const>(zeroes.span())));
}

// A store, what users saw of it at each step, and the nodes of its store tree at the end.
struct Scene {
  std::shared_ptr<Device> disk = make_memory_device(std::uint64_t{48} << 20);
  std::vector<Contents> states{};

  explicit Scene(int layers) {
    must(Store::format(*disk, {}));
    TestStore store(disk, {});
    for (int i = 0; i < layers; ++i) {
      auto const id = must(store->create_layer(name(i), 0));
      if (i % 16 == 0)
        put(*must(store->layer(id)), "file", std::string(9'000, static_cast<char>('a' + i % 26)));
    }
    // More than are kept, so that every older state that can be gone back to is one of these.
    for (int i = 0; i < 12; ++i) {
      auto const id = must(store->create_layer("late-" + std::to_string(i), 0));
      look(store);
      put(*must(store->layer(id)), "late", std::string(5'000, static_cast<char>('0' + i)));
      look(store);
    }
    must(store->close());
  }

  static std::string name(int i) {
    return "layer-with-a-name-that-takes-room-" + std::to_string(i);
  }

  // Was the store ever like that?
  [[nodiscard]] bool was(Contents const& now) const {
    if (std::find(states.begin(), states.end(), now) != states.end()) return true;
    // While the first layers were made: these are there up to one, and of that the file may not
    // have been durable.
    auto want = states.back();
    int n = 0;
    while (now.contains(name(n) + ":/")) ++n;
    std::erase_if(want, [&](auto const& entry) {
      auto const layer = entry.first.substr(0, entry.first.find(':'));
      for (int i = 0; i < n; ++i)
        if (layer == name(i))
          return i == n - 1 && entry.first.ends_with("/file") && !now.contains(entry.first);
      return true;
    });
    return now == want;
  }

  void look(TestStore& store) {
    must(store->close());
    states.push_back(must_see());
    store.reopen();
  }

  Contents must_see() const {
    auto contents = contents_of(*disk);
    if (!contents) throw std::runtime_error("the store does not open");
    return *std::move(contents);
  }

  SuperblockInfo superblock(std::uint32_t slot) const {
    AlignedBuffer block(kBlockSize);
    must(disk->read(kSlotBlock[slot] * kBlockSize, block.span()));
    return must(parse_superblock(block.span(), {slot, disk->size(), false}));
  }
};

Mended mend_by_search(Device& device, std::function<bool(fsck::Proposal const&)> const& no = {}) {
  return mend(device, true, no, [](fsck::Options& how) { how.search = true; });
}

std::string steps(Mended const& m) {
  std::string out;
  for (auto const& p : m.asked) out += std::string(fsck::step_name(p.step)) + " ";
  return out;
}

}  // namespace

TEST_CASE("search: a store whose first 64 KiB are gone comes back with all that it held") {
  for (int const layers : {0, 3, 300}) {
    CAPTURE(layers);
    Scene const scene(layers);
    auto const uuid = scene.superblock(0).uuid;
    wipe(*scene.disk, 0, kReservedBlocks);
    CHECK(findings_of(*scene.disk).find("not an lcfs store") != std::string::npos);
    CHECK_FALSE(mend(*scene.disk).ok);

    auto const m = mend_by_search(*scene.disk);
    REQUIRE_MESSAGE(m.ok, m.error.text());
    CHECK(steps(m) == "found ");
    CHECK(findings_of(*scene.disk) == "");
    CHECK(scene.must_see() == scene.states.back());
    CHECK(scene.superblock(0).uuid == uuid);
    CHECK(scene.superblock(1).uuid == uuid);
    // It goes on as a store: what is made now collides with nothing.
    TestStore store(scene.disk, {});
    put(*must(store->layer(must(store->create_layer("new", 0)))), "file", "new");
  }
}

TEST_CASE(
    "search: with both newest store trees gone, superblocks or not, an older state comes back "
    "whole") {
  for (bool const superblocks : {true, false}) {
    for (int const layers : {1, 300}) {
      CAPTURE(superblocks);
      CAPTURE(layers);
      Scene const scene(layers);
      for (std::uint32_t const slot : {0u, 1u})
        wipe(*scene.disk, scene.superblock(slot).store_root.block.get(), kNodeBlocks);
      if (!superblocks) wipe(*scene.disk, 0, kReservedBlocks);
      auto const refused = mend(*scene.disk);
      CHECK_FALSE(refused.ok);
      if (superblocks) CHECK(refused.error.text().find("--search") != std::string::npos);

      auto const m = mend_by_search(*scene.disk);
      REQUIRE_MESSAGE(m.ok, m.error.text());
      CHECK(steps(m) == "found ");
      CHECK(findings_of(*scene.disk) == "");
      auto const now = scene.must_see();
      CHECK(now != scene.states.back());
      CHECK(scene.was(now));
    }
  }
}

TEST_CASE(
    "search: whatever nodes of the store tree are gone, what comes back is a state that there "
    "was") {
  int found = 0;
  Scene const scene(300);
  std::vector<std::uint64_t> nodes;  // of any store tree
  AlignedBuffer node(kNodeSize);
  for (std::uint64_t block = kReservedBlocks;
       block + kNodeBlocks <= scene.disk->size() / kBlockSize; ++block) {
    must(scene.disk->read(block * kBlockSize, node.span()));
    auto const& h = NodeReader(node.data()).header();
    NodeExpectation const itself{
        block, h.generation.get(), h.checksum.get(), h.level, false, h.store, false};
    if (h.owner.get() == 0 && check_node(node.span(), itself, scene.disk->size() / kBlockSize))
      nodes.push_back(block);
  }
  REQUIRE(nodes.size() > 20);
  for (std::uint64_t seed = 1; seed <= number_from("LCFS_SEEDS", 40); ++seed) {
    CAPTURE(seed);
    std::mt19937_64 rng(seed);
    auto const disk = copy_of(*scene.disk);
    for (std::uint32_t const slot : {0u, 1u})
      wipe(*disk, scene.superblock(slot).store_root.block.get(), kNodeBlocks);
    for (auto n = rng() % 6; n > 0; --n) wipe(*disk, nodes[rng() % nodes.size()], kNodeBlocks);
    if (rng() % 2 == 0) wipe(*disk, 0, kReservedBlocks);
    auto const m = mend_by_search(*disk);
    if (!m.ok) {
      CHECK(m.error.text().find("no whole store tree") != std::string::npos);
      continue;
    }
    ++found;
    CHECK(findings_of(*disk) == "");
    auto const now = contents_of(*disk);
    REQUIRE(now);
    CAPTURE(m.text);
    CHECK(scene.was(*now));
  }
  CHECK(found > 10);
}

TEST_CASE(
    "search: nothing is written before the answer, and no to it leaves everything as it was") {
  Scene const scene(3);
  wipe(*scene.disk, 0, kReservedBlocks);
  auto const before = copy_of(*scene.disk);
  auto const m = mend_by_search(*scene.disk, [](fsck::Proposal const&) { return true; });
  REQUIRE(m.ok);
  CHECK(m.repaired.declined);
  CHECK_FALSE(m.repaired.changed);
  fsck::Options how;
  how.search = true;
  auto const report = must(fsck::check(*scene.disk, how));
  CHECK_FALSE(report.clean());
  REQUIRE_FALSE(report.findings.empty());
  CHECK(report.findings.back().text.find("a whole store tree was found") != std::string::npos);
  AlignedBuffer a(1u << 20), b(1u << 20);
  for (std::uint64_t at = 0; at < before->size(); at += a.size()) {
    must(before->read(at, a.span()));
    must(scene.disk->read(at, b.span()));
    REQUIRE(std::equal(a.data(), a.data() + a.size(), b.data()));
  }
}

TEST_CASE(
    "search: an old copy of the first 64 KiB is put right, though what it leads to is whole; of a "
    "store as it should be nothing is said") {
  std::shared_ptr<Device> const disk = make_memory_device(std::uint64_t{64} << 20);
  must(Store::format(*disk, {}));
  AlignedBuffer old(kReservedBlocks * kBlockSize);
  Contents before;
  {
    TestStore store(disk, {});
    put(*must(store->layer(must(store->create_layer("first", 0)))), "file", "first");
    must(store->close());
    before = *contents_of(*disk);
    must(disk->read(0, old.span()));
  }
  for (int i = 0; i < 4; ++i) {
    TestStore store(disk, {});
    put(*must(store->layer(must(store->create_layer("later-" + std::to_string(i), 0)))), "file",
        "later");
    must(store->close());
  }
  auto const want = *contents_of(*disk);
  REQUIRE(mend_by_search(*disk).asked.empty());

  must(disk->write(0, std::span<std::byte const>(old.span())));
  REQUIRE(*contents_of(*disk) == before);  // as if nothing was wrong
  fsck::Options how;
  how.search = true;
  auto const told = fsck::check(*disk, how);
  REQUIRE(told);
  CHECK(told->errors == 1);
  auto const no = mend_by_search(*disk, [](fsck::Proposal const&) { return true; });
  CHECK(steps(no) == "found ");
  CHECK(*contents_of(*disk) == before);
  auto const m = mend_by_search(*disk);
  REQUIRE_MESSAGE(m.ok, m.error.text());
  CHECK(steps(m) == "found ");
  CHECK(findings_of(*disk) == "");
  CHECK(*contents_of(*disk) == want);
  CHECK(mend_by_search(*disk).asked.empty());
}

TEST_CASE("search: an old copy of the first 64 KiB from before the store grew") {
  std::shared_ptr<Device> const disk = make_memory_device(std::uint64_t{32} << 20);
  must(Store::format(*disk, {}));
  AlignedBuffer old(kReservedBlocks * kBlockSize);
  {
    TestStore store(disk, {});
    put(*must(store->layer(must(store->create_layer("first", 0)))), "file", "first");
    must(store->close());
    must(disk->read(0, old.span()));
  }
  {
    TestStore store(disk, {});
    must(store->grow(std::uint64_t{64} << 20));
    for (int i = 0; i < 4; ++i) {
      put(*must(store->layer(must(store->create_layer("later-" + std::to_string(i), 0)))), "file",
          std::string(10'000'000, static_cast<char>('a' + i)));
      must(store->checkpoint());
    }
    must(store->close());
  }
  auto const want = *contents_of(*disk);
  must(disk->write(0, std::span<std::byte const>(old.span())));
  auto const m = mend_by_search(*disk);
  REQUIRE_MESSAGE(m.ok, m.error.text());
  CHECK(steps(m) == "found ");
  CHECK(findings_of(*disk) == "");
  CHECK(*contents_of(*disk) == want);
}

TEST_CASE(
    "search: of two stores that a device held the one that was used last is taken, and the other "
    "one told") {
  Scene const scene(3);
  auto const old = scene.superblock(0).uuid;
  FormatOptions how;
  how.size = scene.disk->size() / 2;  // half of what the first store wrote is left alone
  must(Store::format(*scene.disk, how));
  {
    TestStore store(scene.disk, {});
    put(*must(store->layer(must(store->create_layer("second", 0)))), "file", "second");
    must(store->close());
  }
  auto const want = scene.must_see();
  wipe(*scene.disk, 0, kReservedBlocks);
  auto const found = fsck::search_tree(*scene.disk, {}, {});
  REQUIRE_MESSAGE(found, found.error().text());
  CHECK(found->superblock.uuid != old);
  for (auto const& other : found->others) CHECK(other == old);
  REQUIRE(mend_by_search(*scene.disk).ok);
  CHECK(scene.must_see() == want);
}

TEST_CASE("search: in a device that holds no store nothing is found, and nothing is changed") {
  auto const disk = std::shared_ptr<Device>(make_memory_device(std::uint64_t{16} << 20));
  AlignedBuffer noise(1u << 20);
  std::mt19937_64 rng(1);
  for (std::uint64_t at = 0; at < disk->size(); at += noise.size()) {
    for (std::size_t i = 0; i + 8 <= noise.size(); i += 8) {
      auto const word = rng();
      std::memcpy(noise.data() + i, &word, 8);
    }
    must(disk->write(at, std::span<std::byte const>(noise.span())));
  }
  auto const m = mend_by_search(*disk);
  CHECK_FALSE(m.ok);
  CHECK(m.error.text().find("no whole store tree") != std::string::npos);
}

TEST_CASE(
    "search: a file whose blocks look like nodes of a later store tree does not break what is "
    "found") {
  Scene const scene(3);
  auto const uuid = scene.superblock(0).uuid;
  {
    TestStore store(scene.disk, {});
    auto const layer = must(store->layer(must(store->create_layer("hostile", 0))));
    // For every place that the data may come to lie at there is no telling; a generation that
    // leaves no room for a next one is the worst.
    std::string data;
    for (std::uint64_t block = kReservedBlocks; block < kReservedBlocks + 200; ++block) {
      AlignedBuffer bytes(kNodeSize);
      NodeEditor node(bytes.data());
      node.init(block, 0, ~0ull, 1, uuid);
      static_cast<void>(seal_node(bytes.span()));
      data.append(reinterpret_cast<char const*>(bytes.data()), kNodeSize);
    }
    put(*layer, "nodes", data);
    must(store->close());
  }
  auto const want = scene.must_see();
  // The same in a place that it does claim.
  auto const free = scene.disk->size() / kBlockSize - kNodeBlocks;
  AlignedBuffer bytes(kNodeSize);
  NodeEditor node(bytes.data());
  node.init(free, 0, ~0ull, 0, uuid);
  static_cast<void>(seal_node(bytes.span()));
  must(scene.disk->write(free * kBlockSize, std::span<std::byte const>(bytes.span())));
  wipe(*scene.disk, 0, kReservedBlocks);
  auto const m = mend_by_search(*scene.disk);
  REQUIRE_MESSAGE(m.ok, m.error.text());
  CHECK(scene.must_see() == want);
  CHECK(findings_of(*scene.disk) == "");
}

TEST_CASE("search: kept checkpoints stay, those too that hold a layer which was removed since") {
  auto const disk = std::shared_ptr<Device>(make_memory_device(std::uint64_t{48} << 20));
  must(Store::format(*disk, {}));
  std::vector<std::uint64_t> want;
  {
    TestStore store(disk, {});
    must(store->create_layer("a", 0));
    auto const b = must(store->create_layer("b", 0));
    put(*must(store->layer(b)), "file", "content");
    must(store->remove_layer(b));
    for (auto const& k : store->history()) want.push_back(k.checkpoint.generation);
    must(store->close());
  }
  wipe(*disk, 0, kReservedBlocks);
  REQUIRE(mend_by_search(*disk).ok);
  CHECK(findings_of(*disk) == "");
  TestStore store(disk, {});
  std::vector<std::uint64_t> have;
  for (auto const& k : store->history()) have.push_back(k.checkpoint.generation);
  CHECK(have == want);
  must(store->bring_back("b", 0, ""));
  auto const b = must(store->layer(must(store->find_layer("b")).id));
  CHECK(content(*b, must(b->lookup(b->root(), "file")).inode) == "content");
}

TEST_CASE(
    "search: a state that lost nodes gives way to an older one that is whole, one that lost data "
    "does not") {
  for (bool const data : {false, true}) {
    CAPTURE(data);
    auto const disk = std::shared_ptr<Device>(make_memory_device(std::uint64_t{48} << 20));
    must(Store::format(*disk, {}));
    LayerId late = 0;
    Contents older;
    {
      TestStore store(disk, {});
      must(store->create_layer("early", 0));
      must(store->close());
      older = *contents_of(*disk);
      store.reopen();
      late = must(store->create_layer("late", 0));
      auto const layer = must(store->layer(late));
      for (int i = 0; i < 400; ++i) put(*layer, "file-" + std::to_string(i), std::string(100, 'x'));
      put(*layer, "large", std::string(50'000, 'l'));
      must(store->close());
    }
    auto const newest = *contents_of(*disk);
    auto const total = disk->size() / kBlockSize;
    std::uint64_t leaf = 0, blocks = 0;
    AlignedBuffer bytes(kNodeSize);
    for (std::uint64_t block = kReservedBlocks; block + kNodeBlocks <= total; ++block) {
      must(disk->read(block * kBlockSize, bytes.span()));
      auto const& h = NodeReader(bytes.data()).header();
      if (h.magic.get() == kNodeMagic && h.block.get() == block && h.owner.get() == late &&
          h.level == 0)
        leaf = block;
      if (std::all_of(bytes.data(), bytes.data() + kBlockSize,
                      [](std::byte b) { return b == std::byte{'l'}; }))
        blocks = block;
    }
    REQUIRE(leaf != 0);
    REQUIRE(blocks != 0);
    wipe(*disk, data ? blocks : leaf, 1);
    wipe(*disk, 0, kReservedBlocks);
    auto const m = mend_by_search(*disk);
    REQUIRE_MESSAGE(m.ok, m.error.text());
    CAPTURE(m.text);
    auto const now = *contents_of(*disk);
    CHECK((m.text.find("it has 1 errors") != std::string::npos) == data);
    if (data)
      CHECK(now.size() + 1 == newest.size());  // the file that can't be read was given up
    else
      CHECK(now.size() == older.size() + 1);  // "late" as it was made, empty
  }
}
