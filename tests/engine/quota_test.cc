// SPDX-License-Identifier: Apache-2.0
// Quotas: what a layer may own, and what it is told at its limit.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cerrno>

#include "engine/store.h"
#include "tests/support/layer_files.h"
#include "tests/support/support.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

TEST_CASE("quota: an open layer stays within it, is told EDQUOT, and can always remove") {
  TestStore store;
  LayerId const id = must(store->create_layer("a", 0, {.quota_blocks = 1024}));
  LayerId const other = must(store->create_layer("b", 0));
  auto const layer = must(store->layer(id));
  int files = 0;
  Status ended;
  for (; files < 1000; ++files) {
    auto const made = layer->create(layer->root(), "f" + std::to_string(files), {S_IFREG | 0644});
    if (!made) {
      ended = made.error();
      break;
    }
    auto const w = layer->write(made->inode, 0, bytes_of(std::string(50000, 'x')));
    auto const s = must(store->layer_space(id));
    REQUIRE(s.own + s.promised <= 1024);
    CHECK(s.quota == 1024);
    if (!w) {
      ended = w.error();
      break;
    }
  }
  REQUIRE(!ended);
  CHECK(ended.error().to_errno() == EDQUOT);
  CHECK(ended.error().code == Errc::kNoSpace);
  must(store->checkpoint());
  CHECK(must(store->layer_info(id)).own_blocks > 1024 - 320);
  CHECK(must(store->layer_info(id)).own_blocks <= 1024);
  put(*must(store->layer(other)), "o", std::string(8'000'000, 'o'));  // nobody else is concerned
  store.check();
  for (int i = 0; i < files; ++i) must(layer->unlink(layer->root(), "f" + std::to_string(i)));
  put(*layer, "again", std::string(1'000'000, 'y'));
  // A commit gives the blocks to the frozen layer: the running one begins anew, with the quota.
  LayerId const next = must(store->commit_layer(id, "snap"));
  CHECK(must(store->layer_info(next)).quota_blocks == 1024);
  CHECK(must(store->layer_info(id)).quota_blocks == 0);
  CHECK(must(store->layer_space(next)).own == 0);
  CHECK(store->set_quota(id, 5).error().code == Errc::kReadOnly);
  must(store->set_quota(next, 10));
  CHECK(layer->create(layer->root(), "no", {S_IFREG | 0644}).error().to_errno() == EDQUOT);
  must(layer->unlink(layer->root(), "again"));
  must(store->set_quota(next, 0));
  put(*layer, "yes", std::string(8'000'000, 'z'));
  store.check();
  CHECK(must(store->layer_space(next)).promised == 0);
  must(store->freeze_layer(next));
  CHECK(must(store->layer_info(next)).quota_blocks == 0);
  store.check();
}
