// SPDX-License-Identifier: Apache-2.0
// Commit: a running layer goes on, on a frozen copy of itself.
#include <doctest/doctest.h>

#include <cerrno>

#include "engine/store.h"
#include "tests/support/layer_files.h"
#include "tests/support/support.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

TEST_CASE(
    "commit: a file without a name stays open in the running layer, and fsck accepts it in the "
    "frozen one") {
  TestStore store;
  LayerId const id = must(store->create_layer("web", 0));
  auto layer = must(store->layer(id));
  Inode const inode = put(*layer, "gone", std::string(100000, 'x'));
  must(layer->open(inode));
  must(layer->unlink(layer->root(), "gone"));
  put(*layer, "kept", "k");
  LayerId const next = must(store->commit_layer(id, "snap"));
  store.check();
  CHECK(content(*layer, inode) == std::string(100000, 'x'));
  CHECK(must(layer->write(inode, 0, bytes_of("new"))) == 3);
  must(layer->release(inode));
  CHECK(layer->getattr(inode).error().to_errno() == ENOENT);
  store.check();
  auto snap = must(store->layer(id));
  CHECK(files_of(*snap) == Files{{"kept", "k"}});
  CHECK(must(store->layer_info(id)).inodes == 3);
  CHECK(must(store->layer_info(next)).inodes == 2);
  // A clone of the frozen one drops it when it is used.
  LayerId const clone = must(store->create_layer("clone", id));
  auto c = must(store->layer(clone));
  store.check();
  CHECK(must(store->layer_info(clone)).inodes == 2);
  snap.reset();
  layer.reset();
  c.reset();
  store.crash();
  store.check();
}

TEST_CASE("commit: without an object, of a clone, of an empty layer, and its refusals") {
  TestStore store;
  LayerId const base = must(store->create_layer("base", 0));
  put(*must(store->layer(base)), "a", "1");
  store.reopen();
  LayerId const one = must(store->commit_layer(base, "one"));
  LayerId const two = must(store->commit_layer(one, "two"));
  CHECK(must(store->layer_info(two)).parent == one);
  CHECK(must(store->layer_info(one)).parent == base);
  CHECK(must(store->layer_info(two)).name == "base");
  CHECK(must(store->layer_info(two)).serve_id == base);
  CHECK(must(store->layer_info(one)).own_blocks == 0);
  CHECK(files_of(*must(store->layer(two))) == Files{{"a", "1"}});
  LayerId const child = must(store->create_layer("child", one));
  CHECK(must(store->layer_info(one)).children == 2);
  CHECK(store->commit_layer(base, "x").error().code == Errc::kReadOnly);
  CHECK(store->commit_layer(999, "x").error().code == Errc::kNotFound);
  CHECK(store->commit_layer(child, "one").error().code == Errc::kExists);
  CHECK(store->commit_layer(child, "child").error().code == Errc::kExists);
  CHECK(store->commit_layer(child, "-").error().code == Errc::kInvalid);
  must(store->remove_layer(two));
  must(store->remove_layer(child));
  CHECK(store->resolve("base").error().code == Errc::kNotFound);
  must(store->remove_layer(one));
  must(store->rename_layer(base, "base"));  // the name is free again
  store.check();
}
