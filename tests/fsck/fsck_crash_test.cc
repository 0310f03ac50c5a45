// SPDX-License-Identifier: Apache-2.0
// A repair that is cut short anywhere: the store is as damaged as it was, or mended; never worse.
#include <doctest/doctest.h>

#include <cerrno>
#include <random>

#include "tests/support/contents.h"
#include "tests/support/family.h"
#include "tests/support/faulty_device.h"
#include "tests/support/mend.h"
#include "tests/support/recording_device.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

struct Case {
  char const* name;
  void (*damage)(RawStore& s, Family& f);
};

void flip_node(RawStore& s, NodePtr const& ptr) { s.flip(ptr.block.get() * kBlockSize + 0x200); }

Case const kCases[] = {
    {"superblock slot",
     [](RawStore& s, Family&) { s.put(kSlotBlock[1] * kBlockSize, std::string(kBlockSize, 'x')); }},
    {"leaf of the base",
     [](RawStore& s, Family& f) { flip_node(s, s.layer(f.base).leaves[3].ptr); }},
    {"root of the base", [](RawStore& s, Family& f) { flip_node(s, s.layer(f.base).info.root); }},
    {"root of the child", [](RawStore& s, Family& f) { flip_node(s, s.layer(f.child).info.root); }},
    {"root of the grandchild",
     [](RawStore& s, Family& f) { flip_node(s, s.layer(f.grandchild).info.root); }},
    {"two leaves of two layers",
     [](RawStore& s, Family& f) {
       flip_node(s, s.layer(f.base).leaves[1].ptr);
       flip_node(s, s.layer(f.child).leaves[5].ptr);
     }},
    {"leaf of the store tree",
     [](RawStore& s, Family&) { s.flip(s.store_nodes[1] * kBlockSize + 0x200); }},
};

// A device to damage, in the same way each time.
std::unique_ptr<Device> damaged(Case const& c) {
  std::mt19937_64 rng(4);
  Family f(rng);
  f.s.freeze(f.child);
  f.finish(rng);
  c.damage(f.s, f);
  return copy_of(f.s.device());
}

}  // namespace

TEST_CASE("repair: a power cut after any write leaves the store as damaged as it was, or mended") {
  for (auto const& c : kCases) {
    CAPTURE(std::string(c.name));
    auto const disk = damaged(c);
    auto const before = findings_of(*disk);
    auto const was = contents_of(*disk);
    CHECK(before != "");
    RecordingDevice recorder(*disk);
    auto const m = mend(recorder);
    REQUIRE_MESSAGE(m.ok, m.error.text());
    CHECK(m.repaired.changed);
    CHECK(findings_of(*disk) == "");
    auto const mended = contents_of(*disk);
    int old = 0, fresh = 0;
    for (std::size_t n = 0; n <= recorder.effects(); ++n) {
      for (auto const& survives :
           {all_survive(), none_survive(), some_survive(n), some_survive(n + 1000)}) {
        CAPTURE(n);
        auto const cut = recorder.crash_after(n, survives);
        auto const now = findings_of(*cut);
        // A superblock that is torn while it is written is the only thing more that may be found.
        bool const as_before = now.find(before) != std::string::npos;
        if (as_before || now.find("superblock") == std::string::npos)
          CHECK((as_before || now == ""));
        auto const seen = contents_of(*cut);
        bool const is_old = seen == was, is_new = seen == mended;
        CHECK((is_old || is_new));
        old += is_old && !is_new;
        fresh += is_new && !is_old;
        // And what is left can be mended to the same end.
        if (n % 3 == 0) {
          auto const again = mend(*cut);
          REQUIRE(again.ok);
          CHECK(findings_of(*cut) == "");
          CHECK(contents_of(*cut) == mended);
        }
      }
    }
    if (was != mended) {
      CHECK(old > 0);
      CHECK(fresh > 0);
    }
  }
}

TEST_CASE(
    "repair: an effect that is refused is told, and leaves the store as damaged as it was, or "
    "mended") {
  for (auto const& c : kCases) {
    CAPTURE(std::string(c.name));
    auto const first = damaged(c);
    auto const before = findings_of(*first);
    auto const was = contents_of(*first);
    for (std::uint64_t n = 0;; ++n) {
      CAPTURE(n);
      auto const disk = copy_of(*first);
      FaultyDevice faulty(*disk);
      faulty.fail_effect(n, EIO, Repeat::kForEver, kWrites | kFlushes);
      auto const m = mend(faulty);
      bool const fired = faulty.fired();
      CHECK(m.ok == !fired);
      if (fired) {
        auto const now = findings_of(*disk);
        CHECK((now == before || now == ""));
      }
      faulty.heal();
      REQUIRE(mend(*disk).ok);
      CHECK(findings_of(*disk) == "");
      if (!fired) break;
    }
  }
}

TEST_CASE("repair: without room for new trees nothing is changed, and that is said") {
  RawStore s(kMinStoreBlocks, 8);
  auto const base = s.add_layer("base", 0);
  for (int i = 0; i < 60; ++i) s.file(base, s.root(base), "f" + std::to_string(i), "x");
  s.seal_layer(base);
  // All but one node more than the store tree takes is the layer's by its runs.
  auto const rest = s.allocate(0) + 2 * kNodeBlocks;
  s.layer(base).own[rest] = kMinStoreBlocks - rest;
  s.layer(base).info.used_blocks = kMinStoreBlocks;
  s.seal();
  s.write();
  flip_node(s, s.layer(base).leaves[3].ptr);
  auto const before = findings_of(s.device());
  auto const was = contents_of(s.device());
  auto const m = mend(s.device());
  CAPTURE(before);
  CAPTURE(m.text);
  REQUIRE_FALSE(m.ok);
  CHECK(m.error.code == Errc::kNoSpace);
  CHECK(m.error.message.find("no free blocks") != std::string::npos);
  CHECK(findings_of(s.device()) == before);
  CHECK(contents_of(s.device()) == was);
}
