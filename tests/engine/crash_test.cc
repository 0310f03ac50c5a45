// SPDX-License-Identifier: Apache-2.0
// Power cuts: after any write, with any choice of the writes in flight, the store opens, is clean,
// and holds exactly the state of a checkpoint that is not older than what was promised (I1, I4, I5,
// I10).  tests/engine/crash_harness_test.cc proves that this judge sees the bugs it is for.
//
//   crash_test
//       some thousand states: of single operations, and of whole lives
//   LCFS_CRASH_STATES=1000000 LCFS_SEED=7 crash_test -tc='crash: as many*'
//       as many states, of lives 7, 8, ... of which each gives 2000
// A failure names life, n, cut and seed, which give the same disk again as long as the engine
// writes the same.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <random>

#include "tests/support/life.h"
#include "tests/support/operations.h"
#include "tests/support/support.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

std::string verdict(Life const& life, std::size_t n, Cut cut, std::uint64_t seed) {
  return life.verdict(n, life.recorder().crash_after(n, survivors(cut, life.recorder(), n, seed)));
}

}  // namespace

TEST_CASE("crash: each operation, cut after any effect in any way, has happened or has not") {
  for (auto const& op : operations()) {
    CAPTURE(std::string(op.name));
    auto const disk = fresh_disk();
    {
      auto const store = must(Store::open(std::make_unique<SharedDevice>(disk), {}));
      must(prepare_operations(*store));
      must(store->close());
    }
    Life life(disk);
    life.live({[&op](Store& store) { must(op.run(store)); }});
    std::size_t const effects = life.recorder().effects();
    REQUIRE(effects > 2);
    for (std::size_t n = 0; n <= effects; ++n) {
      CAPTURE(n);
      for (unsigned cut = 0; cut < kCuts; ++cut) {
        CAPTURE(cut);
        REQUIRE(verdict(life, n, static_cast<Cut>(cut), n * 31 + cut) == "");
      }
    }
  }
}

TEST_CASE(
    "crash: after any effect, whatever of the writes in flight arrived, a checkpoint stands, "
    "whole, and no promise is broken") {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    Life life(fresh_disk());
    life.live(seed, 16);
    CAPTURE(seed);
    for (std::size_t n = 0; n <= life.recorder().effects(); ++n) {
      CAPTURE(n);
      auto const cut = static_cast<Cut>(1 + n % (kCuts - 1));
      REQUIRE(verdict(life, n, Cut::kNone, 0) == "");
      REQUIRE(verdict(life, n, cut, seed * 1000 + n) == "");
    }
  }
}

TEST_CASE(
    "crash: a process is killed, the next goes on with what nobody flushed, and then the power "
    "goes") {
  auto const work = [](std::string name) {
    return std::vector<std::function<void(Store&)>>{
        [name](Store& store) { must(store.create_layer(name, 0)); },
        [name](Store& store) {
          auto const layer = must(store.layer(must(store.find_layer(name)).id));
          std::string const data(20000, name[0]);
          must(layer->write(must(layer->create(layer->root(), "file", {S_IFREG | 0644})).inode, 0,
                            std::as_bytes(std::span{data.data(), data.size()})));
          must(store.checkpoint());
        },
        [name](Store& store) {
          must(store.commit_layer(must(store.find_layer(name)).id, name + "1"));
        },
        [name](Store& store) { must(store.remove_layer(must(store.find_layer(name)).id)); }};
  };
  std::size_t all = 0;
  {
    Life life(fresh_disk());
    life.live(work("first"));
    all = life.recorder().effects();
  }
  for (std::size_t killed = 0; killed <= all; ++killed) {
    CAPTURE(killed);
    Life life(fresh_disk());
    life.live_until_killed(killed, work("first"));
    auto const from = life.recorder().effects();
    life.live(work("next"));
    for (std::size_t n = from; n <= life.recorder().effects(); ++n) {
      CAPTURE(n);
      for (unsigned const cut : {static_cast<unsigned>(Cut::kNone),
                                 1 + static_cast<unsigned>((n + killed) % (kCuts - 1))})
        REQUIRE(verdict(life, n, static_cast<Cut>(cut), killed * 1000 + n) == "");
    }
  }
}

TEST_CASE("crash: as many states as the environment asks for") {
  std::uint64_t const states = number_from("LCFS_CRASH_STATES", 3000),
                      first = number_from("LCFS_SEED", 100);
  for (std::uint64_t done = 0, seed = first; done < states; ++seed) {
    Life life(fresh_disk());
    life.live(seed, 24);
    std::mt19937_64 rng(seed);
    for (int i = 0; i < 2000 && done < states; ++i, ++done) {
      auto const n = static_cast<std::size_t>(rng() % (life.recorder().effects() + 1));
      auto const cut = static_cast<Cut>(rng() % kCuts);
      auto const toss = rng();
      CAPTURE(seed);
      CAPTURE(n);
      CAPTURE(static_cast<int>(cut));
      CAPTURE(toss);
      REQUIRE(verdict(life, n, cut, toss) == "");
    }
  }
}
