// SPDX-License-Identifier: Apache-2.0
// fsck that mends: after it a second run is clean, what was not damaged is what it was, and what
// was lost is named.
#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "format/node.h"
#include "fsck/repair.h"
#include "tests/support/contents.h"
#include "tests/support/family.h"
#include "tests/support/layer_files.h"
#include "tests/support/mend.h"
#include "tests/support/support.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

TEST_CASE(
    "repair: of records broken in any way, with checksums that are right, a clean store is made") {
  int broken = 0;
  for (std::uint64_t seed = 1; seed <= number_from("LCFS_SEEDS", 300); ++seed) {
    CAPTURE(seed);
    std::mt19937_64 rng(seed);
    auto const which = rng() % 3;
    auto const n = rng() % 3 + 1;
    std::optional<Family> family;
    try {
      family.emplace(rng, which == 0 ? n : 0);
      auto& f = *family;
      for (std::uint64_t i = 0; which == 1 && i < n; ++i) damage(f.s.layer(f.child).records, rng);
      f.finish(rng);
      if (which == 2) {
        damage(f.s.store_records, rng);
        f.s.write();
      }
    } catch (std::exception const&) {
      continue;  // broken so that the test's own writer can't go on from it
    }
    auto& f = *family;
    auto const before = findings_of(f.s.device());
    broken += !before.empty();
    CAPTURE(before);
    auto const m = mend(f.s.device());
    REQUIRE_MESSAGE(m.ok, m.error.text());
    CAPTURE(m.text);
    auto const after = findings_of(f.s.device());
    REQUIRE(after == "");
    CHECK(m.repaired.changed == !before.empty());
    auto const contents = contents_of(f.s.device());
    REQUIRE(contents);
    for (auto const& entry : *contents)
      CHECK_MESSAGE(entry.second.find(kUnreadable) == std::string::npos, entry.first);
  }
  CHECK(broken > 100);
}

TEST_CASE("repair: a superblock slot that was wiped is an error, and is written again") {
  for (std::uint32_t const slot : {0u, 1u}) {
    auto const disk = std::shared_ptr<Device>(make_memory_device(std::uint64_t{16} << 20));
    must(Store::format(*disk, {}));
    {
      TestStore store(disk, {});
      for (auto const* name : {"a", "b", "c", "d"}) must(store->create_layer(name, 0));
      must(store->close());
      AlignedBuffer zeroes(kBlockSize);
      std::fill_n(zeroes.data(), kBlockSize, std::byte{0});
      must(disk->write(kSlotBlock[slot] * kBlockSize, std::span<std::byte const>(zeroes.span())));
      CHECK(findings_of(*disk).find("was wiped") != std::string::npos);
      auto const m = mend(*disk, true, [](fsck::Proposal const& p) { return !p.safe; });
      REQUIRE_MESSAGE(m.ok, m.error.text());
      CHECK(findings_of(*disk) == "");
      auto const report = must(fsck::check(*disk, {}));
      for (auto const& s : report.slots) CHECK(s.state == fsck::SlotState::kValid);
    }
  }
}

TEST_CASE(
    "repair: of kept checkpoints only those go that can't be gone back to, without asking for "
    "anything unsafe") {
  auto const disk = std::shared_ptr<Device>(make_memory_device(std::uint64_t{32} << 20));
  must(Store::format(*disk, {}));
  TestStore store(disk, {});
  std::vector<HistoryEntry> kept;
  LayerId const gone = must(store->create_layer("gone", 0));
  put(*must(store->layer(gone)), "file", std::string(500'000, 'g'));
  for (auto const* name : {"a", "b", "c"}) must(store->create_layer(name, 0));
  must(store->remove_layer(gone));
  must(store->create_layer("d", 0));
  kept = store->history();
  REQUIRE(kept.size() >= 5);
  must(store->close());
  auto const& bad = kept[kept.size() - 3].checkpoint;
  AlignedBuffer zeroes(kNodeSize);
  std::fill_n(zeroes.data(), kNodeSize, std::byte{0});
  must(disk->write(bad.root.block.get() * kBlockSize, std::span<std::byte const>(zeroes.span())));
  CHECK(findings_of(*disk).find("restore point") != std::string::npos);
  auto const m = mend(*disk, true, [](fsck::Proposal const& p) { return !p.safe; });
  REQUIRE_MESSAGE(m.ok, m.error.text());
  CHECK(m.text.find("drop 1 unusable restore point of " + std::to_string(kept.size())) !=
        std::string::npos);
  CHECK(findings_of(*disk) == "");
  TestStore again(disk, {});
  std::vector<std::uint64_t> left, want;
  for (auto const& k : again->history()) left.push_back(k.checkpoint.generation);
  for (auto const& k : kept) {
    if (k.checkpoint.generation != bad.generation) want.push_back(k.checkpoint.generation);
  }
  CHECK(left == want);
  must(again->bring_back("gone", 0, ""));
  CHECK(
      content(
          *must(again->layer(gone)),
          must(must(again->layer(gone))->lookup(must(again->layer(gone))->root(), "file")).inode) ==
      std::string(500'000, 'g'));
}

TEST_CASE(
    "repair: of a layer that lost its root and some of its leaves nothing shows that it had "
    "changed or removed, and what is gone is named") {
  auto const disk = std::shared_ptr<Device>(make_memory_device(std::uint64_t{32} << 20));
  must(Store::format(*disk, {}));
  LayerId above = 0;
  {
    TestStore store(disk, {});
    auto const name = [](int i) { return "file-" + std::to_string(i); };
    auto const below = must(store->create_layer("below", 0));
    for (int i = 0; i < 600; ++i)
      put(*must(store->layer(below)), name(i),
          "old " + std::to_string(i) + std::string(static_cast<std::size_t>(i % 700), 'o'));
    must(store->freeze_layer(below));
    above = must(store->create_layer("above", below));
    auto const layer = must(store->layer(above));
    for (int i = 0; i < 600; ++i) {
      if (i % 5 == 0)
        put(*layer, name(i),
            "new " + std::to_string(i) + std::string(static_cast<std::size_t>(i % 500), 'n'));
      if (i % 7 == 1 || (i > 200 && i < 300)) must(layer->unlink(layer->root(), name(i)));
    }
    must(store->close());
  }
  auto const before = contents_of(*disk);
  REQUIRE(before);
  std::uint64_t root = 0;
  std::vector<std::uint64_t> leaves;
  AlignedBuffer node(kNodeSize);
  for (std::uint64_t block = kReservedBlocks; block + kNodeBlocks <= disk->size() / kBlockSize;
       ++block) {
    must(disk->read(block * kBlockSize, node.span()));
    auto const& h = NodeReader(node.data()).header();
    if (h.magic.get() != kNodeMagic || h.block.get() != block || h.owner.get() != above) continue;
    if (h.level == 0)
      leaves.push_back(block);
    else
      root = block;
  }
  REQUIRE(root != 0);
  REQUIRE(leaves.size() > 5);
  AlignedBuffer zeroes(kBlockSize);
  std::fill_n(zeroes.data(), zeroes.size(), std::byte{0});
  for (std::uint64_t seed = 1; seed <= number_from("LCFS_SEEDS", 60); ++seed) {
    CAPTURE(seed);
    std::mt19937_64 rng(seed);
    auto const damaged = copy_of(*disk);
    if (seed % 3 != 0)
      must(damaged->write(root * kBlockSize, std::span<std::byte const>(zeroes.span())));
    for (auto n = rng() % 4; n > 0; --n)
      must(damaged->write((leaves[rng() % leaves.size()] + 2) * kBlockSize,
                          std::span<std::byte const>(zeroes.span())));
    auto const m = mend(*damaged);
    REQUIRE_MESSAGE(m.ok, m.error.text());
    CAPTURE(m.text);
    REQUIRE(findings_of(*damaged) == "");
    auto const after = contents_of(*damaged);
    REQUIRE(after);
    for (auto const& entry : *after) {
      auto const& path = entry.first;
      auto const& text = entry.second;
      if (path.find("lost+found") != std::string::npos || path.ends_with(":/")) continue;
      auto const it = before->find(path);
      REQUIRE_MESSAGE(it != before->end(), path << " is back");
      CHECK_MESSAGE(it->second == text, path);
    }
    for (auto const& entry : *before) {
      auto const& path = entry.first;
      if (after->contains(path)) continue;
      bool const named = m.text.find(path.substr(path.find(':') + 1) + ":") != std::string::npos;
      CHECK_MESSAGE((named || m.text.find(" more inodes without a name") != std::string::npos ||
                     m.text.find("has no name left") != std::string::npos),
                    path);
    }
  }
}

TEST_CASE(
    "repair: kept checkpoints that have the damage of a layer, or of one another, all go in one "
    "round") {
  for (bool const removed : {false, true}) {
    CAPTURE(removed);
    auto const disk = std::shared_ptr<Device>(make_memory_device(std::uint64_t{32} << 20));
    must(Store::format(*disk, {}));
    LayerId hurt = 0;
    {
      TestStore store(disk, {});
      hurt = must(store->create_layer("hurt", 0));
      for (int i = 0; i < 300; ++i)
        put(*must(store->layer(hurt)), "file-" + std::to_string(i), std::string(200, 'x'));
      for (auto const* name : {"a", "b", "c", "d", "e"}) must(store->create_layer(name, 0));
      if (removed) must(store->remove_layer(hurt));
      must(store->close());
    }
    AlignedBuffer node(kNodeSize);
    std::uint64_t leaf = 0, newest = 0;
    for (std::uint64_t block = kReservedBlocks; block + kNodeBlocks <= disk->size() / kBlockSize;
         ++block) {
      must(disk->read(block * kBlockSize, node.span()));
      auto const& h = NodeReader(node.data()).header();
      if (h.magic.get() != kNodeMagic || h.block.get() != block || h.owner.get() != hurt ||
          h.level != 0 || h.generation.get() < newest)
        continue;
      newest = h.generation.get();
      leaf = block;
    }
    REQUIRE(leaf != 0);
    AlignedBuffer zeroes(kBlockSize);
    std::fill_n(zeroes.data(), zeroes.size(), std::byte{0});
    must(disk->write((leaf + 1) * kBlockSize, std::span<std::byte const>(zeroes.span())));
    auto const report = must(fsck::check(*disk, {}));
    CHECK(std::count_if(report.findings.begin(), report.findings.end(), [](fsck::Finding const& f) {
            return f.code == fsck::Code::kHistory;
          }) >= 4);
    auto const m = mend(*disk);
    REQUIRE_MESSAGE(m.ok, m.error.text());
    CAPTURE(m.text);
    CHECK(findings_of(*disk) == "");
    // Asked once: a second round would ask again.
    CHECK(std::count_if(m.asked.begin(), m.asked.end(), [](fsck::Proposal const& p) {
            return p.step == fsck::Step::kDerived || p.step == fsck::Step::kTree;
          }) == 1);
  }
}
