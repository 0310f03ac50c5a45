// SPDX-License-Identifier: Apache-2.0
// fsck looks only at what a layer changed of its parent.  It must say of every store, whatever is
// wrong with it, exactly what a walk of every whole tree says.
#include <doctest/doctest.h>

#include <random>

#include "fsck/check.h"
#include "tests/support/family.h"
#include "tests/support/support.h"

using namespace lcfs;
using lcfs::test::damage;
using lcfs::test::Family;
using lcfs::test::number_from;

namespace {

std::string dump(fsck::Report const& r) {
  std::string out;
  for (auto const& f : r.findings)
    out += std::string(fsck::code_name(f.code)) + ": " + f.line() + "\n";
  auto const& c = r.counters;
  for (std::uint64_t const n : {c.layers, c.inodes, c.total, c.store_tree, c.layer_nodes,
                                c.layer_data, c.dying, c.free, r.errors, r.notes}) {
    out += std::to_string(n) + " ";
  }
  return out;
}

}  // namespace

TEST_CASE("fsck: what differs from the parent tells all that a walk of the whole tree tells") {
  std::uint64_t const seeds = number_from("LCFS_SEEDS", 300);
  int broken = 0;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 rng(seed);
    Family f(rng);
    if (seed % 10 != 0) {
      for (std::uint64_t n = rng() % 3 + 1; n > 0; --n) damage(f.s.layer(f.child).records, rng);
    }
    try {
      f.finish(rng);
    } catch (std::exception const&) {
      continue;  // broken so that the test's own writer can't go on from it
    }
    fsck::Options whole;
    whole.walk_all = true;
    auto const a = fsck::check(f.s.device(), {}), b = fsck::check(f.s.device(), whole);
    REQUIRE(a);
    REQUIRE(b);
    REQUIRE(dump(*a) == dump(*b));
    CHECK(a->counters.data_checked == b->counters.data_checked);
    if (seed % 10 == 0) CHECK_MESSAGE(a->clean(), dump(*a));
    broken += !a->clean();
  }
  CHECK(broken > static_cast<int>(seeds / 2));
}
