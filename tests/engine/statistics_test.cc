// SPDX-License-Identifier: Apache-2.0
// The counters of a store and of its layers.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include "engine/store.h"
#include "tests/support/layer_files.h"
#include "tests/support/support.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

TEST_CASE("statistics: counters move, the node cache shrinks and empties") {
  TestStore store;
  LayerId const id = must(store->create_layer("a", 0));
  auto const layer = must(store->layer(id));
  for (int i = 0; i < 2000; ++i)
    must(layer->create(layer->root(), "f" + std::to_string(i), {S_IFREG | 0644}));
  Inode const inode = put(*layer, "data", std::string(100000, 'x'));
  CHECK(store->stats().dirty_bytes > 0);
  must(store->checkpoint());
  auto const a = store->stats();
  CHECK(a.dirty_bytes == 0);
  CHECK(a.checkpoints >= 2);
  CHECK(a.checkpoint_max_ns > 0);
  CHECK(a.checkpoint_ns >= a.checkpoint_max_ns);
  CHECK(a.device_written_bytes > 100000);
  CHECK(a.device_flushes >= 2);
  CHECK(a.cache_bytes > 0);
  store->drop_caches();
  CHECK(store->stats().cache_bytes == 0);
  CHECK(content(*layer, inode).size() == 100000);
  auto const b = store->stats();
  CHECK(b.cache_misses > a.cache_misses);
  CHECK(b.device_reads > a.device_reads);
  auto const io = store->layer_io(id);
  CHECK(io.writes == 1);
  CHECK(io.written_bytes == 100000);
  CHECK(io.read_bytes == 100000);
  CHECK(store->layer_io(99).reads == 0);
  (void)files_of(*layer);
  store->set_node_cache_limit(0);  // the least there is
  CHECK(store->stats().cache_bytes <= store->stats().cache_limit);
  CHECK(files_of(*layer).size() == 2001);
  CHECK(store->stats().checksum_failures == 0);
}
