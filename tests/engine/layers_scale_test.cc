// SPDX-License-Identifier: Apache-2.0
// I9: what is done to a layer costs the same however many there are, side by side or one on the
// other.  Counted, not timed: what is written and read on the device, and how many checkpoints it
// takes.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <string>
#include <vector>

#include "engine/store.h"
#include "tests/support/test_store.h"

using namespace lcfs;
using lcfs::test::must;
using lcfs::test::TestStore;

namespace {

void add_file(Store& store, LayerId id, std::string const& name) {
  auto const layer = must(store.layer(id));
  must(layer->create(layer->root(), name, {S_IFREG | 0644}));
}

struct Cost {
  std::uint64_t written = 0, reads = 0, checkpoints = 0;
};

// The dearest of some operations, so that no single one may look at everything.
template <class Op>
Cost dearest(Store& store, int times, Op const& op) {
  Cost most;
  for (int i = 0; i < times; ++i) {
    auto const before = store.stats();
    op(i);
    auto const after = store.stats();
    most.written = std::max(most.written, after.device_written_bytes - before.device_written_bytes);
    most.reads = std::max(most.reads, after.device_reads - before.device_reads);
    most.checkpoints = std::max(most.checkpoints, after.checkpoints - before.checkpoints);
  }
  return most;
}

struct Costs {
  Cost create{}, commit{}, rename{}, lazy{}, remove{};
};

Costs measure(Store& store, LayerId parent) {
  constexpr int kTimes = 12;
  Costs costs;
  std::vector<LayerId> made, running;
  costs.create = dearest(store, kTimes, [&](int i) {
    made.push_back(must(store.create_layer("op" + std::to_string(i), parent)));
  });
  for (LayerId const id : made) add_file(store, id, "f");
  must(store.checkpoint());
  costs.commit = dearest(store, kTimes, [&](int i) {
    running.push_back(
        must(store.commit_layer(made[static_cast<std::size_t>(i)], "snap" + std::to_string(i))));
  });
  costs.rename = dearest(store, kTimes, [&](int i) {
    must(store.rename_layer(running[static_cast<std::size_t>(i)], "r" + std::to_string(i)));
  });
  costs.lazy = dearest(store, kTimes, [&](int i) {
    must(store.remove_layer(made[static_cast<std::size_t>(i)], Remove::kLazy));
  });
  costs.remove = dearest(store, kTimes, [&](int i) {
    must(store.remove_layer(running[static_cast<std::size_t>(i)]));
  });
  must(store.checkpoint());
  return costs;
}

// The store tree is a level or two higher: a node more on the way, here and there.
void check_same(char const* what, Cost const& few, Cost const& many) {
  CAPTURE(std::string(what));
  CHECK(many.written <= few.written + 8 * kNodeSize);
  CHECK(many.reads <= few.reads + 12);
  CHECK(many.checkpoints <= few.checkpoints);
}

}  // namespace

TEST_CASE(
    "layers: create, commit, rename and remove read and write as much with 10,000 layers as with "
    "10, wide and deep") {
  for (bool const deep : {false, true}) {
    CAPTURE(deep);
    TestStore s(512);
    LayerId const base = must(s->create_layer("base", 0));
    for (int i = 0; i < 300; ++i) add_file(*s, base, "file" + std::to_string(i));
    LayerId last = base;
    Costs few;
    for (int made = 1; made < 10'000; ++made) {
      if (made == 10) few = measure(*s, deep ? last : base);
      last = must(s->create_layer("layer" + std::to_string(made), deep ? last : base));
      if (made % 100 == 0) add_file(*s, last, "own" + std::to_string(made));
    }
    s->drop_caches();
    auto const many = measure(*s, deep ? last : base);
    check_same("create", few.create, many.create);
    check_same("commit", few.commit, many.commit);
    check_same("rename", few.rename, many.rename);
    check_same("remove --lazy", few.lazy, many.lazy);
    check_same("remove", few.remove, many.remove);
  }
}
