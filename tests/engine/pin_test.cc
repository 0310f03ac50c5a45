// SPDX-License-Identifier: Apache-2.0
// Pins: a checkpoint stays readable beneath the running store.
#include <doctest/doctest.h>

#include <random>

#include "engine/store.h"
#include "tests/support/layer_files.h"
#include "tests/support/support.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

TEST_CASE(
    "pin: what a pinned checkpoint reaches stays on the device, while the running store writes "
    "on") {
  TestStore store;
  LayerId const id = must(store->create_layer("a", 0));
  auto const layer = must(store->layer(id));
  std::mt19937_64 rng(5);
  for (int i = 0; i < 20; ++i) put(*layer, "f" + std::to_string(i), some_data(rng));
  must(store->checkpoint());
  {
    CheckpointPin pin = store->pin();
    CHECK(pin.generation() == store->superblock().generation);
    // The device as that checkpoint left it: every superblock after it taken back.
    AlignedBuffer slots(kReservedBlocks * kBlockSize), now(kReservedBlocks * kBlockSize);
    must(store.device()->read(0, slots.span()));
    CheckpointPin moved = std::move(pin);
    for (int round = 0; round < 30; ++round) {
      put(*layer, "f" + std::to_string(rng() % 20), some_data(rng));
      must(store->checkpoint());
      CHECK(test::fsck_findings(*store.device()) == "");  // beneath the running store
      must(store.device()->read(0, now.span()));
      must(store.device()->write(0, std::span<std::byte const>(slots.span())));
      CHECK(test::fsck_findings(*store.device()) == "");
      must(store.device()->write(0, std::span<std::byte const>(now.span())));
      auto const s = store->space();
      CHECK(s.total == s.reserved + s.store_tree + s.layers + s.history + s.pending + s.free);
    }
    CHECK(store->space().pending > 100);
  }
  // `force` is not ours to give: two small changes, two checkpoints.
  for (int i = 0; i < 2; ++i) {
    put(*layer, "last", std::to_string(i));
    must(store->checkpoint());
  }
  CHECK(store->space().pending < 100);
}
