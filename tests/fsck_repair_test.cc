// SPDX-License-Identifier: Apache-2.0
// fsck that mends: after it a second run is clean, what was not damaged is what it was, and what was lost is named.
#include "fsck/repair.h"

#include <doctest/doctest.h>

#include <optional>
#include <random>

#include "tests/support/contents.h"
#include "tests/support/family.h"
#include "tests/support/mend.h"
#include "tests/support/support.h"

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
