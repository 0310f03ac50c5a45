// SPDX-License-Identifier: Apache-2.0
#include "engine/tree/tree.h"

#include <doctest/doctest.h>

#include <map>
#include <random>

#include "tests/support/test_store.h"

using namespace lcfs;
using lcfs::test::must;

namespace {

using Model = std::map<Key, std::vector<std::byte>>;

// A device, a cache and a free map: what trees stand on.
struct Ground {
  std::unique_ptr<Device> device = make_memory_device(256u << 20);
  std::uint64_t total = (256u << 20) / kBlockSize;
  NodeCache cache{*device, total, {1, 2, 3, 4, 5, 6, 7, 8}, 1u << 20};  // small: nodes come and go
  SpaceMap space{*device, total, {}};

  void write(std::vector<NodeRef> const& nodes) {
    for (auto const& n : nodes) {
      must(device->write(n->block * kBlockSize, std::span<std::byte const>(n->bytes.span())));
      cache.unpin(n->block);
    }
  }
};

struct OneTree {
  OneTree(Ground& g, std::uint64_t owner, NodePtr root)
      : ground(g), space(g.space, owner), tree(g.cache, space, root) {
    tree.set_generation(owner);
  }
  void seal() { ground.write(tree.seal()); }
  Ground& ground;
  OwnerSpace space;
  Tree tree;
};

std::vector<std::byte> value_of(std::mt19937_64& rng) {
  // Mostly small, sometimes the largest that there is.
  std::size_t const size = rng() % 10 == 0 ? rng() % (kMaxValue + 1) : rng() % 200;
  std::vector<std::byte> v(size);
  for (auto& b : v) b = static_cast<std::byte>(rng());
  return v;
}

void check_same(Tree const& tree, Model const& model) {
  auto it = model.begin();
  Tree::Cursor c(tree);
  must(c.seek({}));
  for (; c.valid(); must(c.next()), ++it) {
    REQUIRE(it != model.end());
    REQUIRE(c.key() == it->first);
    REQUIRE(std::equal(c.value().begin(), c.value().end(), it->second.begin(), it->second.end()));
  }
  CHECK(it == model.end());
  // A cursor that goes from place to place finds what one from the root would.
  std::mt19937_64 rng(model.size());
  for (int i = 0; i < 50; ++i) {
    Key const key{rng() % 62, static_cast<std::uint8_t>(rng() % 8), rng() % 42};
    must(c.seek_near(key));
    auto const want = model.lower_bound(key);
    REQUIRE(c.valid() == (want != model.end()));
    if (c.valid()) CHECK(c.key() == want->first);
    if (c.valid() && rng() % 3 == 0) must(c.next());
  }
}

Key random_key(std::mt19937_64& rng) {
  return {1 + rng() % 60, static_cast<std::uint8_t>(1 + rng() % 6), rng() % 40};
}

void random_change(OneTree& t, Model& model, std::mt19937_64& rng) {
  Key const key = random_key(rng);
  switch (rng() % 8) {
    case 0:
    case 1: {
      bool const was = model.erase(key) != 0;
      CHECK(must(t.tree.erase(key)) == was);
      break;
    }
    case 2:
      if (rng() % 20 == 0) {  // a whole inode
        Key const low{key.inode, 0, 0}, high{key.inode, 0xff, ~0ull};
        auto const end = model.upper_bound(high);
        auto it = model.lower_bound(low);
        must(t.tree.erase_range(low, high, [&](Key const& k, Bytes) -> Status {
          CHECK(it->first == k);
          ++it;
          return {};
        }));
        CHECK(it == end);
        model.erase(model.lower_bound(low), end);
        break;
      }
      [[fallthrough]];
    default: {
      auto v = value_of(rng);
      must(t.tree.put(key, v));
      model[key] = std::move(v);
    }
  }
}

}  // namespace

TEST_CASE("tree: behaves like std::map under random puts, erases and range erases") {
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    CAPTURE(seed);
    Ground ground;
    OneTree t(ground, 1, {});
    Model model;
    std::mt19937_64 rng(seed);
    for (int i = 0; i < 12000; ++i) {
      random_change(t, model, rng);
      if (i % 1000 == 0) t.seal();
      if (i % 3000 == 0) check_same(t.tree, model);
      if (i % 7 == 0) {
        Key const key = random_key(rng);
        auto const found = must(t.tree.get(key));
        auto const it = model.find(key);
        REQUIRE(found.has_value() == (it != model.end()));
        Tree::Cursor c(t.tree);
        must(c.seek(key));
        auto const at = model.lower_bound(key);
        REQUIRE(c.valid() == (at != model.end()));
        if (c.valid()) CHECK(c.key() == at->first);
        must(c.seek_floor(key));
        auto const above = model.upper_bound(key);
        REQUIRE(c.valid() == (above != model.begin()));
        if (c.valid()) CHECK(c.key() == std::prev(above)->first);
      }
    }
    check_same(t.tree, model);
  }
}

TEST_CASE("tree: a clone shares nodes; neither side ever sees the other's changes") {
  Ground ground;
  std::vector<std::unique_ptr<OneTree>> trees;
  std::vector<Model> models;
  std::mt19937_64 rng(7);
  trees.push_back(std::make_unique<OneTree>(ground, 1, NodePtr{}));
  models.emplace_back();
  for (int generation = 1; generation < 8; ++generation) {
    for (int i = 0; i < 1500; ++i) random_change(*trees.back(), models.back(), rng);
    trees.back()->seal();  // frozen from here on
    auto const& frozen = *trees.back();
    trees.push_back(std::make_unique<OneTree>(ground, static_cast<std::uint64_t>(generation + 1),
                                              frozen.tree.root()));
    models.push_back(models.back());
  }
  for (std::size_t i = 0; i < trees.size(); ++i) {
    CAPTURE(i);
    check_same(trees[i]->tree, models[i]);
  }
}

TEST_CASE("tree: a clone's first change copies one path, not the tree") {
  Ground ground;
  OneTree base(ground, 1, {});
  std::vector<std::byte> const v(100);
  for (std::uint64_t i = 0; i < 20000; ++i) must(base.tree.put({i, 1, 0}, v));
  base.seal();
  OneTree clone(ground, 2, base.tree.root());
  must(clone.tree.put({5000, 1, 0}, v));
  CHECK(clone.tree.dirty_nodes() <= 3);
  CHECK(clone.tree.take_used_delta() == 0);  // as many nodes as before
}

TEST_CASE("tree: ascending appends fill leaves") {
  Ground ground;
  OneTree t(ground, 1, {});
  std::vector<std::byte> const v(100);
  constexpr std::uint64_t kRecords = 30000;
  for (std::uint64_t i = 0; i < kRecords; ++i) must(t.tree.append({i, 1, 0}, v));
  std::uint64_t const least = kRecords * (sizeof(LeafSlot) + v.size()) / kLeafRoom;
  CHECK(t.tree.dirty_nodes() <= least * 102 / 100 + 3);
  t.seal();
  Tree::Cursor c(t.tree);
  must(c.seek({}));
  std::uint64_t n = 0;
  for (; c.valid(); must(c.next())) CHECK(c.key().inode == n++);
  CHECK(n == kRecords);
}

TEST_CASE(
    "tree: what is put behind records that fill their leaves, in ascending order, leaves leaves "
    "nearly full") {
  // As files that are made, all of them, and then written back one after the other.
  Ground ground;
  OneTree t(ground, 1, {});
  Model model;
  std::mt19937_64 rng(3);
  std::vector<std::byte> const inode(0x60), parent(30);
  std::uint64_t bytes = 0;
  auto const put = [&](Key const& key, std::vector<std::byte> const& value) {
    must(t.tree.put(key, value));
    model[key] = value;
    bytes += sizeof(LeafSlot) + value.size();
  };
  for (std::uint64_t i = 1; i < 10'000; ++i) {
    put({i, kInode, 0}, inode);
    put({i, kParent, 256}, parent);
  }
  for (std::uint64_t i = 1; i < 10'000; ++i) {
    if (rng() % 2 == 0) put({i, kInline, 0}, std::vector<std::byte>(1 + rng() % kInlineMax));
  }
  CHECK(t.tree.dirty_nodes() * kLeafRoom * 85 / 100 < bytes);
  check_same(t.tree, model);
  t.seal();
  check_same(t.tree, model);
}

TEST_CASE("tree: appends between puts and erases keep the order") {
  Ground ground;
  OneTree t(ground, 1, NodePtr{});
  Model model;
  std::mt19937_64 rng(5);
  for (std::uint64_t inode = 1; inode < 3000; ++inode) {
    for (std::uint8_t kind = 1; kind < 3; ++kind) {
      auto const value = value_of(rng);
      must(t.tree.append({inode, kind, 0}, value));
      model[{inode, kind, 0}] = value;
    }
    Key const key{inode - rng() % std::min<std::uint64_t>(inode, 40),
                  static_cast<std::uint8_t>(1 + rng() % 4), 0};
    if (rng() % 3 == 0) {
      CHECK(must(t.tree.erase(key)) == (model.erase(key) != 0));
    } else {
      auto const value = value_of(rng);
      must(t.tree.put(key, value));
      model[key] = value;
    }
    if (rng() % 200 == 0) t.seal();
    if (rng() % 100 == 0) check_same(t.tree, model);
  }
  check_same(t.tree, model);
}

TEST_CASE("tree: everything erased leaves no node, and all space comes back") {
  Ground ground;
  std::uint64_t const free_before = ground.space.counts().free;
  {
    OneTree t(ground, 1, {});
    std::vector<std::byte> const v(300);
    for (std::uint64_t i = 0; i < 5000; ++i) must(t.tree.put({i * 7919 % 5000, 1, 0}, v));
    for (std::uint64_t i = 0; i < 5000; ++i) CHECK(must(t.tree.erase({i * 104729 % 5000, 1, 0})));
    CHECK(t.tree.empty());
    CHECK(t.tree.take_used_delta() == 0);
    auto allocated = t.space.take_allocated(), freed = t.space.take_freed();
    normalize(allocated);
    normalize(freed);
    CHECK(subtract(allocated, freed).empty());
    ground.space.give_back(freed, false);
  }
  CHECK(ground.space.counts().free == free_before);
}

TEST_CASE("tree: a node changed on the device is refused, with its place") {
  Ground ground;
  OneTree t(ground, 1, {});
  std::vector<std::byte> const v(100);
  for (std::uint64_t i = 0; i < 5000; ++i) must(t.tree.append({i, 1, 0}, v));
  t.seal();
  NodePtr const root = t.tree.root();
  AlignedBuffer bytes(kBlockSize);
  std::uint64_t const at = root.block.get() * kBlockSize;
  must(ground.device->read(at, bytes.span()));
  bytes.data()[1000] ^= std::byte{4};
  must(ground.device->write(at, std::span<std::byte const>(bytes.span())));
  NodeCache cold(*ground.device, ground.total, {1, 2, 3, 4, 5, 6, 7, 8}, 1u << 20);
  OwnerSpace space(ground.space, 9);
  Tree tree(cold, space, root);
  auto const r = tree.get({3, 1, 0});
  REQUIRE_FALSE(r);
  CHECK(r.error().code == Errc::kCorrupt);
  CHECK(r.error().offset == at + offsetof(NodeHeader, checksum));
}
