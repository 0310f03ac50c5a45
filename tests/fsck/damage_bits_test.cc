// SPDX-License-Identifier: Apache-2.0
// Flipped bits anywhere in a store: no wrong data is ever returned, all in blocks that are in use
// is found, and fsck -y leaves a clean store that has nothing in it that was not there before.
#include <doctest/doctest.h>

#include <random>
#include <regex>

#include "tests/support/contents.h"
#include "tests/support/family.h"
#include "tests/support/mend.h"
#include "tests/support/support.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

// Whatever is there is what was there: no path has another content than before.
void check_nothing_wrong(Contents const& before, Contents const& now) {
  auto const content = [](std::string const& text) { return text.substr(0, text.find(" user.")); };
  for (auto const& entry : now) {
    auto const& path = entry.first;
    auto const& text = entry.second;
    if (path.find("/lost+found") != std::string::npos) continue;
    auto const it = before.find(path);
    bool const new_layer = path.starts_with("lost-");
    CHECK_MESSAGE((it != before.end() || new_layer), path);
    if (it == before.end() || text.find(kUnreadable) != std::string::npos || text == it->second)
      continue;
    // A directory whose record was lost has become root's; an attribute may be gone.
    bool const directory = it->second.starts_with("16");
    CHECK_MESSAGE((directory || content(text) == content(it->second)),
                  path << " was " << it->second << " and is " << text);
  }
}

// What is gone was told, by its path or that of a directory it was in; what has no name any more,
// by number or by count.
void check_all_is_named(Contents const& before, Contents const& after, Mended const& m) {
  for (auto const& p : m.asked)  // then it is no matter of single files
    if (p.step == fsck::Step::kOlder || p.step == fsck::Step::kStore ||
        p.step == fsck::Step::kRemove || p.step == fsck::Step::kGraph)
      return;
  bool const by_number = std::regex_search(m.text, std::regex("\n    inode [0-9]+: removed"));
  for (auto const& entry : before) {
    if (after.contains(entry.first)) continue;
    auto const colon = entry.first.find(':');
    if (colon == std::string::npos) continue;  // an image: a proposal of its own
    bool named = m.text.find(" more inodes without a name") != std::string::npos ||
                 m.text.find("has no name left") != std::string::npos;
    named = named || by_number || m.text.find(" names is lost") != std::string::npos ||
            m.text.find(" names are lost") != std::string::npos ||
            m.text.find(" names in it is lost") != std::string::npos ||
            m.text.find(" names in it are lost") != std::string::npos ||
            m.text.find("possibly names in it") != std::string::npos;
    for (auto path = entry.first.substr(colon + 1); !named && path.size() > 1;
         path.resize(path.rfind('/')))
      named = m.text.find(path + ":") != std::string::npos ||
              m.text.find(path.substr(path.rfind('/')) + ":") != std::string::npos;
    CHECK_MESSAGE(named, entry.first << " is gone");
  }
}

// A family of layers on a device, and what is in it.
struct Subject {
  std::mt19937_64 rng;
  Family f;
  Contents before;
  std::uint64_t end = 0;  // bytes up to here are in use, for the most part

  explicit Subject(std::uint64_t seed) : rng(seed), f(rng) {
    f.s.freeze(f.child);
    f.finish(rng);
    before = *contents_of(f.s.device());
    end = f.s.allocate(0) * kBlockSize;
  }
  // A byte behind the superblocks.
  std::uint64_t any_byte() {
    return kReservedBlocks * kBlockSize + rng() % (end - kReservedBlocks * kBlockSize);
  }
  std::uint64_t any_block() { return any_byte() / kBlockSize * kBlockSize; }

  void check() {
    auto& device = f.s.device();
    auto const found = findings_of(device);
    if (auto const damaged = contents_of(device)) check_nothing_wrong(before, *damaged);
    auto const m = mend(device);
    CAPTURE(found);
    CAPTURE(m.text);
    if (!m.ok) {
      // Only where nothing is left to start from.
      bool const hopeless = m.error.message.find("nothing to repair from") != std::string::npos;
      CHECK_MESSAGE(
          (hopeless || m.error.code == Errc::kUnsupported || m.error.code == Errc::kInvalid),
          m.error.text());
      if (!hopeless) return;
      // What a search brings back is sound, and was so; there need not be anything.
      auto const searched = mend(device, true, {}, [](fsck::Options& how) { how.search = true; });
      if (!searched.ok) {
        auto const& why = searched.error.message;
        CHECK_MESSAGE((why.find("nothing to repair from") != std::string::npos ||
                       why.find("no whole store tree") != std::string::npos),
                      why);
        return;
      }
      CAPTURE(searched.text);
      REQUIRE(findings_of(device) == "");
      auto const found_again = contents_of(device);
      REQUIRE(found_again);
      check_nothing_wrong(before, *found_again);
      return;
    }
    REQUIRE(findings_of(device) == "");
    auto const after = contents_of(device);
    REQUIRE(after);
    check_nothing_wrong(before, *after);
    check_all_is_named(before, *after, m);
    for (auto const& entry : *after)
      CHECK_MESSAGE(entry.second.find(kUnreadable) == std::string::npos, entry.first);
    kept += after->size();
    had += before.size();
  }
  static inline std::size_t kept = 0, had = 0;
};

}  // namespace

TEST_CASE(
    "flipped bits: nothing wrong is read, each in a used block is found, and repaired the store is "
    "clean") {
  Subject::kept = Subject::had = 0;
  for (std::uint64_t seed = number_from("LCFS_FIRST_SEED", 1);
       seed <= number_from("LCFS_SEEDS", 400); ++seed) {
    CAPTURE(seed);
    Subject t(seed);
    for (auto flips = t.rng() % 3 + 1; flips > 0; --flips)
      t.f.s.flip(t.rng() % 5 == 0 ? t.rng() % 0x200 : t.any_byte(),
                 static_cast<std::uint8_t>(1u << t.rng() % 8));
    CHECK(findings_of(t.f.s.device()) != "");
    t.check();
  }
  // Two bits in a store of two hundred small blocks cost a part of it, not all of it.
  CHECK(Subject::kept > Subject::had * 3 / 4);
}

TEST_CASE(
    "blocks that were swapped, copied over others, wiped, or come from an older state or another "
    "store do no more harm") {
  for (std::uint64_t seed = number_from("LCFS_FIRST_SEED", 1);
       seed <= number_from("LCFS_SEEDS", 200); ++seed) {
    CAPTURE(seed);
    Subject t(seed);
    auto& s = t.f.s;
    auto const a = t.any_block(), b = t.any_block();
    switch (seed % 4) {
      case 0: {
        auto const first = s.read(a, kBlockSize), second = s.read(b, kBlockSize);
        s.put(a, second);
        s.put(b, first);
        break;
      }
      case 1: s.put(a, s.read(b, kBlockSize)); break;
      case 2: s.put(a, std::string(kBlockSize * (1 + t.rng() % 4), '\0')); break;
      default: {  // the same kind of store, made otherwise
        Subject other(seed + 1000);
        auto const n = kBlockSize * (1 + t.rng() % 16);
        auto const at = std::min(a, other.end - n);
        s.put(at, other.f.s.read(at, n));
      }
    }
    t.check();
  }
}

TEST_CASE("a store that was cut short is refused, and nothing is written to it") {
  Subject t(1);
  auto const disk = copy_of(t.f.s.device());
  REQUIRE(disk->resize(t.end / 2 / kBlockSize * kBlockSize));
  CHECK(findings_of(*disk).find("total_blocks") != std::string::npos);
  auto const m = mend(*disk);
  CHECK_FALSE(m.ok);
  CHECK(m.error.message.find("nothing to repair from") != std::string::npos);
  CHECK_FALSE(contents_of(*disk));
}
