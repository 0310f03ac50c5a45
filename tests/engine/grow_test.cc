// SPDX-License-Identifier: Apache-2.0
// Stores that grow.
#include <doctest/doctest.h>

#include "engine/store.h"
#include "tests/support/layer_files.h"
#include "tests/support/support.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

TEST_CASE(
    "grow: a full store has room again, twice, and is as large as it says when opened again") {
  TestStore store(16);
  LayerId const id = must(store->create_layer("a", 0));
  auto layer = must(store->layer(id));
  Inode const inode = put(*layer, "f", "");
  std::uint64_t at = 0;
  std::string const mb(1u << 20, 'x');
  auto fill = [&] {
    for (;; at += mb.size()) {
      if (auto const w = layer->write(inode, at, bytes_of(mb)); !w || *w < mb.size()) break;
    }
  };
  fill();
  std::uint64_t const full = at;
  CHECK(store->grow(8u << 20).error().code == Errc::kInvalid);
  must(store->grow(16u << 20));
  CHECK(store->space().total == 4096);
  must(store->grow(32u << 20));
  CHECK(store->space().total == 8192);
  CHECK(store->superblock().total_blocks == 8192);
  fill();
  CHECK(at > full + (12u << 20));
  store.check();
  must(store.device()->resize(40u << 20));
  must(store->grow(0));
  CHECK(store->space().total == 10240);
  fill();
  store.check();
  layer.reset();
  store.reopen();
  CHECK(store->space().total == 10240);
  CHECK(content(*must(store->layer(id)), inode).size() >= at);
  must(store.device()->resize(64u << 20));  // a device that is larger than its store
  store.crash();
  CHECK(store->space().total == 10240);
  store.check();
}
