// SPDX-License-Identifier: Apache-2.0
// fsck that mends: after it a second run is clean, what was not damaged is what it was, and what was lost is named.
#include "fsck/repair.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/support/contents.h"
#include "tests/support/family.h"
#include "tests/support/layer_files.h"
#include "tests/support/mend.h"
#include "tests/support/support.h"
#include "tests/support/test_store.h"

using namespace lcfs;
using namespace lcfs::test;

TEST_CASE("repair: of records broken in any way, with checksums that are right, a clean store is made") {
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
    for (auto const& entry : *contents) CHECK_MESSAGE(entry.second.find(kUnreadable) == std::string::npos, entry.first);
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

TEST_CASE("repair: of kept checkpoints only those go that can't be gone back to, without asking for anything unsafe") {
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
  CHECK(findings_of(*disk).find("kept checkpoint") != std::string::npos);
  auto const m = mend(*disk, true, [](fsck::Proposal const& p) { return !p.safe; });
  REQUIRE_MESSAGE(m.ok, m.error.text());
  CHECK(m.text.find("1 of " + std::to_string(kept.size()) + " kept checkpoints can't be gone back to and is dropped") != std::string::npos);
  CHECK(findings_of(*disk) == "");
  TestStore again(disk, {});
  std::vector<std::uint64_t> left, want;
  for (auto const& k : again->history()) left.push_back(k.checkpoint.generation);
  for (auto const& k : kept) {
    if (k.checkpoint.generation != bad.generation) want.push_back(k.checkpoint.generation);
  }
  CHECK(left == want);
  must(again->bring_back("gone", 0, ""));
  CHECK(content(*must(again->layer(gone)), must(must(again->layer(gone))->lookup(must(again->layer(gone))->root(), "file")).inode) == std::string(500'000, 'g'));
}
