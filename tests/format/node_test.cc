// SPDX-License-Identifier: Apache-2.0
#include "format/node.h"

#include <doctest/doctest.h>

#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "format/hash.h"
#include "tests/support/support.h"

using namespace lcfs;
using namespace lcfs::format;
using lcfs::test::bytes_of;

namespace {

constexpr std::uint64_t kTotal = 5000;
constexpr StoreId kStore{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

struct Node {
  std::vector<std::byte> bytes = std::vector<std::byte>(kNodeSize);
  NodeEditor edit{bytes.data()};

  explicit Node(std::uint8_t level) { edit.init(100, 7, 5, level, kStore); }
  Node(Node const&) = delete;
  Node& operator=(Node const&) = delete;

  template <class T>
  void put(std::size_t at, T v) {
    LittleEndian<T> const le{v};
    std::memcpy(bytes.data() + at, &le, sizeof le);
  }
  Status check(std::uint8_t level) {
    NodeExpectation e;
    e.block = 100;
    e.generation = 5;
    e.checksum = seal_node(bytes);
    e.max_level = level;
    e.exact_level = true;
    e.store = kStore;
    return check_node(bytes, e, kTotal);
  }
};

NodePtr pointer(std::uint64_t block) {
  NodePtr p;
  p.block.set(block);
  p.generation.set(3);
  return p;
}

// Three records, values at 0x3ffb "hello", 0x3ff9 "xy", and an empty one.
void fill_leaf(Node& n) {
  REQUIRE(n.edit.insert(0, {1, 1, 0}, bytes_of("hello")));
  REQUIRE(n.edit.insert(1, {1, 2, 9}, bytes_of("xy")));
  REQUIRE(n.edit.insert(2, {2, 1, 0}, {}));
}

void fill_branch(Node& n) {
  REQUIRE(n.edit.insert_child(0, {1, 1, 0}, pointer(16)));
  REQUIRE(n.edit.insert_child(1, {5, 1, 0}, pointer(20)));
}

struct Case {
  char const* name;
  void (*damage)(Node&);
  std::uint64_t offset;
  char const* text;
};

void check_cases(std::span<Case const> cases, std::uint8_t level) {
  for (auto const& c : cases) {
    CAPTURE(c.name);
    Node n(level);
    level == 0 ? fill_leaf(n) : fill_branch(n);
    REQUIRE(n.check(level));
    c.damage(n);
    auto const r = n.check(level);
    REQUIRE_FALSE(r);
    CHECK(r.error().code == Errc::kCorrupt);
    CHECK(r.error().offset == c.offset);
    CHECK_MESSAGE(r.error().message.find(c.text) != std::string::npos, r.error().message);
  }
}

}  // namespace

TEST_CASE(
    "node: each damaged field of a leaf is refused, and named, though the checksum is right") {
  static constexpr Case kCases[] = {
      {"magic", [](Node& n) { n.put<std::uint32_t>(0, 7); }, 0, "not a node"},
      {"block", [](Node& n) { n.put<std::uint64_t>(0x08, 104); }, 0x08,
       "node of block 104 found at block 100"},
      {"generation", [](Node& n) { n.put<std::uint64_t>(0x18, 4); }, 0x18, "generation 4"},
      {"level", [](Node& n) { n.put<std::uint8_t>(0x20, 1); }, 0x20, "level 1"},
      {"reserved0", [](Node& n) { n.put<std::uint8_t>(0x21, 1); }, 0x21, "reserved"},
      {"count large", [](Node& n) { n.put<std::uint16_t>(0x22, 0xffff); }, 0x22, "65535 slots"},
      {"heap in the slots", [](Node& n) { n.put<std::uint16_t>(0x24, 0x50); }, 0x24, "heap 0x50"},
      {"heap behind the end", [](Node& n) { n.put<std::uint16_t>(0x24, 0x4001); }, 0x24,
       "heap 0x4001"},
      {"garbage", [](Node& n) { n.put<std::uint16_t>(0x26, 1); }, 0x26, "garbage 1"},
      {"store", [](Node& n) { n.put<std::uint8_t>(0x2f, 0); }, 0x28, "another store"},
      {"end of store", [](Node& n) { n.put<std::uint8_t>(0x37, 0); }, 0x28, "another store"},
      {"reserved1", [](Node& n) { n.put<std::uint8_t>(0x3f, 1); }, 0x38, "reserved"},
      {"slot reserved", [](Node& n) { n.put<std::uint8_t>(0x40 + 0x11, 1); }, 0x51, "reserved"},
      {"value below the heap", [](Node& n) { n.put<std::uint16_t>(0x40 + 0x12, 0x100); }, 0x52,
       "value at 0x100"},
      {"value over the end", [](Node& n) { n.put<std::uint16_t>(0x40 + 0x12, 0x3ffc); }, 0x52,
       "value at 0x3ffc"},
      {"value far behind", [](Node& n) { n.put<std::uint16_t>(0x40 + 0x12, 0xffff); }, 0x52,
       "value at 0xffff"},
      {"value too large", [](Node& n) { n.put<std::uint16_t>(0x40 + 0x14, 4097); }, 0x54,
       "value of 4097 bytes"},
      {"values overlap", [](Node& n) { n.put<std::uint16_t>(0x40 + 22 + 0x12, 0x3ffa); }, 0x3ffb,
       "overlap"},
      {"key again",
       [](Node& n) {
         n.put<std::uint64_t>(0x40 + 22 + 8, 0);
         n.put<std::uint8_t>(0x40 + 22 + 16, 1);
       },
       0x56, "out of order"},
      {"keys swapped", [](Node& n) { n.put<std::uint64_t>(0x40, 9); }, 0x56, "out of order"},
  };
  check_cases(kCases, 0);
}

TEST_CASE(
    "node: each damaged field of a branch is refused, and named, though the checksum is right") {
  static constexpr Case kCases[] = {
      {"no children", [](Node& n) { n.put<std::uint16_t>(0x22, 0); }, 0x22, "0 children"},
      {"count large", [](Node& n) { n.put<std::uint16_t>(0x22, 409); }, 0x22, "409 children"},
      {"heap", [](Node& n) { n.put<std::uint16_t>(0x24, 1); }, 0x24, "heap"},
      {"garbage", [](Node& n) { n.put<std::uint16_t>(0x26, 1); }, 0x26, "garbage"},
      {"entry reserved", [](Node& n) { n.put<std::uint8_t>(0x40 + 0x13, 1); }, 0x51, "reserved"},
      {"child in the superblock", [](Node& n) { n.put<std::uint64_t>(0x40 + 0x14, 15); }, 0x54,
       "block 15"},
      {"no child", [](Node& n) { n.put<std::uint64_t>(0x40 + 0x14, 0); }, 0x54, "block 0"},
      {"child behind the end", [](Node& n) { n.put<std::uint64_t>(0x40 + 0x14, 4997); }, 0x54,
       "block 4997"},
      {"child wraps", [](Node& n) { n.put<std::uint64_t>(0x40 + 0x14, ~0ull); }, 0x54, "outside"},
      {"child of the future", [](Node& n) { n.put<std::uint64_t>(0x40 + 0x1c, 6); }, 0x5c,
       "younger"},
      {"keys swapped", [](Node& n) { n.put<std::uint64_t>(0x40, 9); }, 0x68, "out of order"},
  };
  check_cases(kCases, 3);
}

TEST_CASE("node: a whole node that is not the one meant is refused, and so is any flipped bit") {
  Node n(0);
  fill_leaf(n);
  NodeExpectation e;
  e.block = 100;
  e.generation = 5;
  e.store = kStore;
  e.max_level = 4;
  e.checksum = seal_node(n.bytes);
  REQUIRE(check_node(n.bytes, e, kTotal));
  CHECK_FALSE(check_node(std::span{n.bytes}.first(kNodeSize - 1), e, kTotal));
  auto other = e;
  ++other.checksum;
  CHECK(check_node(n.bytes, other, kTotal).error().message.find("not the one") !=
        std::string::npos);
  other = e;
  other.exact_level = true;
  CHECK_FALSE(check_node(n.bytes, other, kTotal));
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    auto const bit = random() % (8 * kNodeSize);
    n.bytes[bit / 8] ^= std::byte{1} << bit % 8;
    CHECK_FALSE(check_node(n.bytes, e, kTotal));
    n.bytes[bit / 8] ^= std::byte{1} << bit % 8;
  }
}

TEST_CASE("node: a leaf does what a map does, and is sound after every step") {
  for (unsigned seed = 0; seed < 12; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    Node n(0);
    std::map<Key, std::string> model;
    std::uint32_t const largest = seed % 3 == 0 ? 40 : seed % 3 == 1 ? 700 : kMaxValue;
    auto const value = [&] {
      std::string v(random() % 5 == 0 ? 0 : random() % (largest + 1), '\0');
      for (auto& c : v) c = static_cast<char>(random());
      return v;
    };
    auto const model_free = [&] {
      std::size_t used = 0;
      for (auto const& [k, v] : model) used += v.size() + sizeof(LeafSlot);
      return kLeafRoom - used;
    };
    for (int step = 0; step < 3000; ++step) {
      // Runs of more inserts, then of more erases: full and empty are both met.
      bool const growing = step / 300 % 2 == 0;
      Key const key{random() % 20, static_cast<std::uint8_t>(random() % 3), random() % 10};
      auto const i = n.edit.lower_bound(key);
      auto const it = model.lower_bound(key);
      REQUIRE(i == static_cast<std::uint32_t>(std::distance(model.begin(), it)));
      bool const there = it != model.end() && it->first == key;
      auto const v = value();
      if (there && random() % (growing ? 4 : 2) != 0 && !growing) {
        n.edit.erase(i);
        model.erase(it);
      } else if (there) {
        bool const fits = model_free() + it->second.size() >= v.size();
        REQUIRE(n.edit.replace(i, bytes_of(v)) == fits);
        if (fits) it->second = v;
      } else {
        bool const fits = model_free() >= v.size() + sizeof(LeafSlot);
        REQUIRE(n.edit.insert(i, key, bytes_of(v)) == fits);
        if (fits) model.emplace(key, v);
      }
      REQUIRE(n.edit.count() == model.size());
      REQUIRE(n.edit.free_bytes() == model_free());
      auto const r = n.check(0);
      REQUIRE_MESSAGE(r.ok(), r.error().text());
      if (step % 10 != 0) continue;
      std::uint32_t s = 0;
      for (auto const& [k, wanted] : model) {
        REQUIRE(n.edit.key(s) == k);
        auto const is = n.edit.value(s);
        REQUIRE(is.size() == wanted.size());
        REQUIRE(std::equal(is.begin(), is.end(), bytes_of(wanted).begin()));
        ++s;
      }
    }
  }
}

TEST_CASE(
    "node: a branch does what a map does, finds the child of every key, and is sound after every "
    "step") {
  std::mt19937 random(3);
  Node n(2);
  std::map<Key, std::uint64_t> model;
  for (int step = 0; step < 6000; ++step) {
    bool const growing = step / 1500 % 2 == 0;
    Key const key{random() % 60, static_cast<std::uint8_t>(random() % 4), random() % 10};
    auto const it = model.lower_bound(key);
    auto const i = static_cast<std::uint32_t>(std::distance(model.begin(), it));
    bool const there = it != model.end() && it->first == key;
    std::uint64_t const block = 16 + random() % 4000;
    if (there && !growing && model.size() > 1) {
      n.edit.erase_child(i);
      model.erase(it);
    } else if (there) {
      n.edit.set_child(i, pointer(block));
      it->second = block;
    } else {
      bool const fits = model.size() < kBranchMax;
      REQUIRE(n.edit.insert_child(i, key, pointer(block)) == fits);
      if (fits) model.emplace(key, block);
    }
    auto const r = n.check(2);
    REQUIRE_MESSAGE(r.ok(), r.error().text());
    Key const probe{random() % 62, static_cast<std::uint8_t>(random() % 5), random() % 11};
    auto const above = model.upper_bound(probe);
    auto const wanted = above == model.begin() ? 0 : std::distance(model.begin(), above) - 1;
    REQUIRE(n.edit.child_for(probe) == static_cast<std::uint32_t>(wanted));
  }
  std::uint32_t s = 0;
  for (auto const& [k, block] : model) {
    REQUIRE(n.edit.key(s) == k);
    REQUIRE(n.edit.entry(s).child.block.get() == block);
    ++s;
  }
}

TEST_CASE("node: move_tail cuts a node in two sound halves") {
  for (std::uint8_t level = 0; level < 2; ++level) {
    Node a(level), b(level);
    for (std::uint32_t i = 0; i < 100; ++i) {
      if (level == 0)
        REQUIRE(a.edit.insert(i, {i, 1, 0}, bytes_of(std::string(i, 'v'))));
      else
        REQUIRE(a.edit.insert_child(i, {i, 1, 0}, pointer(16 + i)));
    }
    a.edit.move_tail(40, b.edit);
    REQUIRE(a.check(level));
    REQUIRE(b.check(level));
    CHECK(a.edit.count() == 40);
    REQUIRE(b.edit.count() == 60);
    for (std::uint32_t i = 0; i < 60; ++i) {
      CHECK(b.edit.key(i) == Key{i + 40, 1, 0});
      if (level == 0)
        CHECK(b.edit.value(i).size() == i + 40);
      else
        CHECK(b.edit.entry(i).child.block.get() == 56 + i);
    }
    // All to the other node: a leaf may end up empty.
    Node c(0);
    if (level == 0) {
      a.edit.move_tail(0, c.edit);
      CHECK(a.check(0));
      CHECK(a.edit.free_bytes() == kLeafRoom);
    }
  }
}
