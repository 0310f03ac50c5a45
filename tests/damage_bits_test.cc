// SPDX-License-Identifier: Apache-2.0
// Flipped bits anywhere in a store: no wrong data is ever returned, all in blocks that are in use is found, and fsck -y leaves a
// clean store that has nothing in it that was not there before.
#include <doctest/doctest.h>

#include <cstdlib>
#include <random>

#include "tests/support/contents.h"
#include "tests/support/family.h"
#include "tests/support/mend.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

std::uint64_t seeds(std::uint64_t usual) {
  char const* const many = std::getenv("LCFS_SEEDS");
  return many != nullptr ? std::strtoull(many, nullptr, 10) : usual;
}

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
    if (it == before.end() || text.find(kUnreadable) != std::string::npos || text == it->second) continue;
    // A directory whose record was lost has become root's; an attribute may be gone.
    bool const directory = it->second.starts_with("16");
    CHECK_MESSAGE((directory || content(text) == content(it->second)), path);
  }
}

}  // namespace

TEST_CASE("flipped bits: nothing wrong is read, each in a used block is found, and repaired the store is clean") {
  for (std::uint64_t seed = 1; seed <= seeds(400); ++seed) {
    CAPTURE(seed);
    std::mt19937_64 rng(seed);
    Family f(rng);
    f.s.freeze(f.child);
    f.finish(rng);
    auto& device = f.s.device();
    auto const before = contents_of(device);
    REQUIRE(before);
    // In use: all up to the last block that the writer gave out.
    auto const end = f.s.allocate(0) * kBlockSize;
    auto const flips = rng() % 3 + 1;
    for (std::uint64_t i = 0; i < flips; ++i) {
      auto const at = rng() % 5 == 0 ? rng() % 0x200 : kReservedBlocks * kBlockSize + rng() % (end - kReservedBlocks * kBlockSize);
      f.s.flip(at, static_cast<std::uint8_t>(1u << rng() % 8));
    }
    auto const found = findings_of(device);
    CHECK(found != "");
    auto const damaged = contents_of(device);
    if (damaged) check_nothing_wrong(*before, *damaged);
    auto const m = mend(device);
    CAPTURE(found);
    CAPTURE(m.text);
    if (!m.ok) {
      // Only where nothing is left to start from.
      CHECK_MESSAGE((m.error.message.find("nothing to repair from") != std::string::npos || m.error.code == Errc::kUnsupported ||
                     m.error.code == Errc::kInvalid),
                    m.error.text());
      continue;
    }
    REQUIRE(findings_of(device) == "");
    auto const after = contents_of(device);
    REQUIRE(after);
    check_nothing_wrong(*before, *after);
    for (auto const& entry : *after) CHECK_MESSAGE(entry.second.find(kUnreadable) == std::string::npos, entry.first);
  }
}
