// SPDX-License-Identifier: Apache-2.0
// Layers that are removed while somebody uses them, and names that change.
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
    "remove: a layer in use goes on, its ancestors too, and their blocks come back when it is let "
    "go") {
  TestStore store;
  LayerId const base = must(store->create_layer("base", 0));
  std::string const big(500000, 'b');
  put(*must(store->layer(base)), "big", big);
  LayerId const mid = must(store->create_layer("mid", base));
  put(*must(store->layer(mid)), "m", std::string(200000, 'm'));
  LayerId const top = must(store->create_layer("top", mid));
  auto object = must(store->layer(top));
  Inode const held = put(*object, "t", "t");
  for (LayerId const id : {top, mid, base}) must(store->remove_layer(id));
  CHECK(all_layers(*store).empty());
  CHECK(store->layer(top).error().code == Errc::kNotFound);
  CHECK(store->commit_layer(top, "x").error().code == Errc::kNotFound);
  LayerId const again = must(store->create_layer("top", 0));  // the name is free
  // Others may take what is free; nothing that the removed layer reads is.
  put(*must(store->layer(again)), "fill", std::string(20'000'000, 'f'));
  store.check();
  store->drop_caches();
  CHECK(files_of(*object) == Files{{"big", big}, {"m", std::string(200000, 'm')}, {"t", "t"}});
  must(object->write(held, 0, bytes_of(std::string(3'000'000, 'w'))));
  must(object->fsync(held));
  must(object->setattr(held, {.size = 1'000'000}));
  must(object->fsync(held));
  store.check();
  store->drop_caches();
  CHECK(content(*object, held) == std::string(1'000'000, 'w'));
  auto const before = store->space();
  object.reset();
  for (int i = 0; i < 4; ++i) must(store->checkpoint());
  auto const after = store->space();
  CHECK(after.layers < before.layers - 400);
  must(store->remove_layer(again));
  for (int i = 0; i < 3; ++i) must(store->checkpoint());
  CHECK(store->space().layers == 0);
  store.check();
}

TEST_CASE("remove: a crash or a close ends a removed layer in use") {
  for (bool const crash : {true, false}) {
    TestStore store;
    LayerId const id = must(store->create_layer("a", 0));
    auto object = must(store->layer(id));
    put(*object, "f", std::string(300000, 'x'));
    must(store->remove_layer(id));
    put(*object, "g", std::string(300000, 'y'));
    must(store->checkpoint());
    if (crash) {
      object.reset();
      store.crash();
    } else {
      must(store->close());
      CHECK(store->space().layers == 0);
      CHECK(object->getattr(object->root()).error().to_errno() == ESTALE);
      object.reset();
      store.reopen();
    }
    for (int i = 0; i < 2; ++i) must(store->checkpoint());
    CHECK(store->space().layers == 0);
    store.check();
  }
}

TEST_CASE("rename: names are freed and taken, and what is not a name is refused") {
  TestStore store;
  LayerId const a = must(store->create_layer("a", 0)), b = must(store->create_layer("b", 0));
  CHECK(store->rename_layer(a, "b").error().code == Errc::kExists);
  CHECK(store->rename_layer(a, "x/y").error().code == Errc::kInvalid);
  CHECK(store->rename_layer(77, "c").error().code == Errc::kNotFound);
  must(store->rename_layer(a, "c"));
  must(store->rename_layer(b, "a"));
  CHECK(must(store->resolve_layer("a")) == b);
  CHECK(must(store->resolve_layer("c")) == a);
  store.crash();
  CHECK(must(store->resolve_layer("a")) == b);
  store.check();
}
