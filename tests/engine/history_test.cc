// SPDX-License-Identifier: Apache-2.0
// Kept checkpoints: random lives against what was remembered, going back, bringing back, and giving
// up when space is needed.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <random>

#include "engine/space/ages.h"
#include "engine/space/space_map.h"
#include "engine/store.h"
#include "tests/support/layer_files.h"
#include "tests/support/support.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

using State = std::map<std::string, Files>;  // by layer

State state_of(Store& store) {
  State out;
  for (auto const& l : all_layers(store)) {
    auto const layer = must(store.layer(l.id));
    out[l.name] = files_of(*layer);
    out[l.name]["/"] = std::to_string(l.id) + (l.state == LayerState::kOpen ? " open" : " frozen") +
                       " on " + std::to_string(l.parent);
  }
  return out;
}

State state_at(std::shared_ptr<Device> const& device, std::uint64_t generation) {
  OpenOptions options;
  options.at = generation;
  auto store = must(Store::open(std::make_unique<SharedDevice>(device), options));
  CHECK(store->superblock().generation == generation);
  CHECK(store->create_layer("no", 0).error().code == Errc::kReadOnly);
  return state_of(*store);
}

void put(Store& store, LayerId id, std::string const& name, std::string const& data) {
  lcfs::test::put(*must(store.layer(id)), name, data);
}

std::uint64_t newest(Store& store) { return store.history().back().checkpoint.generation; }

}  // namespace

TEST_CASE("ages: runs with a generation against a plain array of blocks") {
  std::mt19937_64 rng(3);
  AgeMap map;
  std::vector<std::uint64_t> model(300, ~0ull);
  for (int step = 0; step < 5000; ++step) {
    Extent const e{rng() % 280, 1 + rng() % 20};
    if (rng() % 2) {
      bool free = true;
      for (std::uint64_t b = e.start; b < e.end(); ++b) free = free && model[b] == ~0ull;
      if (!free) continue;
      std::uint64_t const generation = rng() % 3;
      map.add(e, generation);
      for (std::uint64_t b = e.start; b < e.end(); ++b) model[b] = generation;
    } else if (rng() % 50 == 0) {
      map.change(1, 2);
      for (auto& m : model) m = m == 1 ? 2 : m;
    } else {
      std::vector<std::uint64_t> got(model.size(), ~0ull);
      std::uint64_t at = 0;
      for (auto const& a : map.take(e)) {
        REQUIRE(a.blocks.start >= std::max(at, e.start));
        REQUIRE(a.blocks.end() <= e.end());
        at = a.blocks.end();
        for (std::uint64_t b = a.blocks.start; b < at; ++b) got[b] = a.generation;
      }
      for (std::uint64_t b = e.start; b < e.end(); ++b) {
        REQUIRE(got[b] == model[b]);
        model[b] = ~0ull;
      }
    }
  }
}

TEST_CASE(
    "history: a checkpoint kept while the next one is on its way names what that one has freed, "
    "though an older kept one does too") {
  auto device = make_memory_device(std::uint64_t{4096} * kBlockSize);
  Extent const used{100, 50};
  SpaceMap space(*device, 4096, {used});
  space.keep(1);
  space.pend({used}, 3);  // 3 is being built, 2 is the newest durable one
  CHECK(space.history_of(1) == 50);
  space.keep(2);
  CHECK(space.history_of(2) == 50);
  space.drop(1, 2, 4);
  CHECK(space.take_pending(9).empty());
  space.drop(2, 0, 10);
  auto const free = space.take_pending(11);
  REQUIRE(free.size() == 1);
  CHECK(free[0].start == used.start);
  CHECK(free[0].count == used.count);
}

TEST_CASE(
    "history: random lives; every kept checkpoint reads as it was, and the store goes back to it") {
  std::uint64_t const seeds = number_from("LCFS_SEEDS", 12);
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 rng(seed);
    TestStore store(64);
    std::map<std::uint64_t, State> states;  // by generation, as of each operation
    int named = 0;
    auto remember = [&] {
      must(store->checkpoint());
      states[store->superblock().generation] = state_of(*store);
    };
    for (int step = 0; step < 60; ++step) {
      CAPTURE(step);
      auto const layers = all_layers(*store);
      remember();
      auto some = [&](auto const& fits) -> LayerInfo const* {
        std::vector<LayerInfo const*> list;
        for (auto const& l : layers) {
          if (fits(l)) list.push_back(&l);
        }
        return list.empty() ? nullptr : list[rng() % list.size()];
      };
      auto const open = [](LayerInfo const& l) { return l.state == LayerState::kOpen; };
      auto const leaf = [](LayerInfo const& l) { return l.children == 0; };
      auto const any = [](LayerInfo const&) { return true; };
      switch (rng() % 12) {
        case 0:
        case 1: {
          auto const* parent = some(any);
          must(store->create_layer("l" + std::to_string(named++),
                                   parent == nullptr || rng() % 3 == 0 ? 0 : parent->id));
          break;
        }
        case 2:
          if (auto const* l = some(open))
            must(store->commit_layer(l->id, "c" + std::to_string(named++)));
          break;
        case 3:
          if (auto const* l = some(any))
            must(store->rename_layer(l->id, "r" + std::to_string(named++)));
          break;
        case 4:
        case 5:
          if (auto const* l = some(leaf)) must(store->remove_layer(l->id));
          break;
        case 6: {
          auto const history = store->history();
          if (history.empty()) break;
          auto const to = history[rng() % history.size()].checkpoint.generation;
          REQUIRE(states.contains(to));
          must(store->go_back(to));
          CHECK(state_of(*store) == states[to]);
          break;
        }
        case 7: {
          // A removed layer comes back as it was.
          auto const history = store->history();
          if (history.empty()) break;
          auto const from = history[rng() % history.size()].checkpoint.generation;
          auto const then = must(store->kept_contents(from)).layers;
          if (then.empty()) break;
          auto const& wanted = then[rng() % then.size()];
          auto const back = store->bring_back(wanted.name, from, "b" + std::to_string(named++));
          bool const live = std::any_of(layers.begin(), layers.end(),
                                        [&](auto const& l) { return l.id == wanted.id; });
          if (!back) {
            CAPTURE(back.error().text());
            CHECK((live || back.error().code == Errc::kInvalid ||
                   back.error().code == Errc::kExists));
            break;
          }
          CHECK(!live);
          REQUIRE(back->back().id == wanted.id);
          auto const object = must(store->layer(wanted.id));
          auto expected = states[from][wanted.name];
          expected.erase("/");
          CHECK(files_of(*object) == expected);
          break;
        }
        case 8: store.reopen(); break;
        case 9: store.crash(); break;
        default:
          for (int i = 0; i < 4; ++i) {
            auto const* l = some(open);
            if (l == nullptr) break;
            auto const object = must(store->layer(l->id));
            std::string const name = "f" + std::to_string(rng() % 8);
            if (rng() % 4 == 0 && object->lookup(object->root(), name))
              must(object->unlink(object->root(), name));
            else
              put(*object, name,
                  std::string(rng() % 3 == 0 ? 900 : rng() % 200'000,
                              static_cast<char>('a' + rng() % 26)));
            if (rng() % 2) must(store->checkpoint());
          }
      }
      // What is derived at opening is what the running store counts, but for what a running store
      // can't tell exactly.
      store.check();
      auto const ran = store->space();
      auto const kept = store->history();
      REQUIRE(kept.size() <= 8);
      std::uint64_t held = 0;
      for (auto const& k : kept) held += k.held_blocks;
      CHECK(held == ran.history);
      if (step % 4 == 0) {
        for (auto const& k : kept) {
          CAPTURE(k.checkpoint.text);
          REQUIRE(states.contains(k.checkpoint.generation));
          CHECK(state_at(store.device(), k.checkpoint.generation) ==
                states[k.checkpoint.generation]);
        }
        store.reopen();
        CHECK(store->history().size() == kept.size());
        CHECK(store->space().history <= ran.history + 64);
      }
    }
    must(store->drop_history(0));
    CHECK(store->space().history == 0);
    CHECK(store->history().empty());
    for (auto const& l : all_layers(*store)) (void)files_of(*must(store->layer(l.id)));
  }
}

TEST_CASE("undo: back before a removal, and forth again; numbers are not given twice") {
  TestStore store;
  LayerId const id = must(store->create_layer("web", 0));
  put(*store, id, "f", std::string(500'000, 'x'));
  must(store->remove_layer(id));
  auto const removed = newest(*store);
  CHECK(store->history().back().checkpoint.text == "layer rm web");
  CHECK(store->space().history > 100);
  auto const super = store->superblock();
  must(store->go_back(removed));
  CHECK(files_of(*must(store->layer(id)))["f"] == std::string(500'000, 'x'));
  CHECK(store->history().back().checkpoint.text == "undo to " + std::to_string(removed));
  LayerId const next = must(store->create_layer("next", 0));
  CHECK(next >= super.next_id);
  store.reopen();
  // The undo is undone.
  auto const entries = store->history();
  auto const undo = std::find_if(entries.begin(), entries.end(), [](auto const& e) {
    return e.checkpoint.text.starts_with("undo");
  });
  REQUIRE(undo != entries.end());
  must(store->go_back(undo->checkpoint.generation));
  CHECK(all_layers(*store).empty());
  CHECK(must(store->create_layer("again", 0)) > next);
  store.check();
  CHECK(store->go_back(1'000'000).error().code == Errc::kNotFound);
}

TEST_CASE("undo: a store whose layers are in use does not go back") {
  TestStore store;
  LayerId const id = must(store->create_layer("web", 0));
  must(store->rename_layer(id, "shop"));
  auto object = must(store->layer(id));
  CHECK(store->go_back(newest(*store)).error().code == Errc::kBusy);
  object.reset();
  must(store->go_back(newest(*store)));
  CHECK(store->find_layer("web"));
}

TEST_CASE(
    "undo --layer: a removed layer comes back with what it stands on, beside what happened since") {
  TestStore store;
  LayerId const base = must(store->create_layer("base", 0));
  put(*store, base, "b", std::string(300'000, 'b'));
  LayerId const top = must(store->create_layer("top", base));
  put(*store, top, "t", std::string(300'000, 't'));
  must(store->remove_layer(top));
  must(store->remove_layer(base));
  LayerId const other = must(store->create_layer("other", 0));
  put(*store, other, "o", std::string(2'000'000, 'o'));
  must(store->checkpoint());
  // The newest kept checkpoint that has "top" is the one before its removal, where its parent was
  // too.
  auto const back = must(store->bring_back("top", 0, ""));
  REQUIRE(back.size() == 2);
  CHECK(back[0].id == base);
  CHECK(back[0].children == 1);
  CHECK(back[1].id == top);
  CHECK(back[1].serve_id > other);  // no handle of the removed layer means it
  store.check();
  CHECK(files_of(*must(store->layer(top))) ==
        Files{{"b", std::string(300'000, 'b')}, {"t", std::string(300'000, 't')}});
  put(*store, top, "t", "goes on");
  store.reopen();
  CHECK(files_of(*must(store->layer(top)))["t"] == "goes on");
  CHECK(files_of(*must(store->layer(other)))["o"] == std::string(2'000'000, 'o'));
  CHECK(store->bring_back("top", 0, "").error().code == Errc::kExists);
  CHECK(store->bring_back("nobody", 0, "").error().code == Errc::kNotFound);
  // A name that another layer has by now.
  must(store->remove_layer(top));
  must(store->create_layer("top", base));
  CHECK(store->bring_back("top", 0, "").error().code == Errc::kExists);
  CHECK(must(store->bring_back("top", 0, "top-before")).back().id == top);
  CHECK(must(store->layer_info(base)).children == 2);
  store.check();
}

TEST_CASE("undo --layer: one whose files are still in use is refused until they are closed") {
  TestStore store;
  LayerId const id = must(store->create_layer("web", 0));
  put(*store, id, "f", std::string(300'000, 'x'));
  auto object = must(store->layer(id));
  must(store->remove_layer(id));
  put(*object, "f", "later");
  CHECK(store->bring_back("web", 0, "").error().code == Errc::kBusy);
  object.reset();
  must(store->bring_back("web", 0, ""));
  CHECK(files_of(*must(store->layer(id)))["f"] == std::string(300'000, 'x'));
  store.check();
}

TEST_CASE(
    "history: with its default it never makes a store full: all that fits without it fits with "
    "it") {
  std::uint64_t room[2] = {};
  for (std::uint32_t const keep : {0u, 8u}) {
    OpenOptions options;
    options.keep = keep;
    TestStore store(32, options);
    std::uint64_t& written = room[keep == 0 ? 0 : 1];
    // Layers come, are filled, and go; then one that takes all there is.
    for (int i = 0; i < 10; ++i) {
      LayerId const id = must(store->create_layer("l" + std::to_string(i), 0));
      put(*store, id, "f", std::string(3'000'000, static_cast<char>('a' + i)));
      must(store->checkpoint());
      must(store->remove_layer(id));
    }
    if (keep != 0) CHECK(store->space().history > 0);
    CHECK(store->space().history <= std::max(store->space().total / 8, store->space().free));
    LayerId const id = must(store->create_layer("all", 0));
    auto layer = must(store->layer(id));
    Inode const inode = must(layer->create(layer->root(), "f", {S_IFREG | 0644})).inode;
    std::string const data(65536, 'y');
    for (;;) {
      auto const n = layer->write(inode, written, bytes_of(data));
      if (!n) {
        CHECK(n.error().to_errno() == ENOSPC);
        break;
      }
      written += *n;
    }
    CHECK(store->space().history == 0);
    // A full store can be emptied, and then keeps again.
    must(store->checkpoint());
    layer.reset();
    must(store->remove_layer(id));
    CHECK(store->space().history == 0);
    must(store->create_layer("small", 0));  // makes the room that it needs
    must(store->create_layer("more", 0));
    if (keep != 0) CHECK(!store->history().empty());
    store.check();
  }
  CHECK(room[1] + 400'000 >= room[0]);
}

TEST_CASE(
    "history: dropped on request it is free at once; how much is kept is the store's own setting") {
  TestStore store;
  LayerId const id = must(store->create_layer("a", 0));
  put(*store, id, "f", std::string(2'000'000, 'x'));
  must(store->remove_layer(id));
  auto const before = store->space();
  CHECK(before.history > 480);
  must(store->drop_history(0));
  auto const after = store->space();
  CHECK(after.history == 0);
  CHECK(after.free >= before.free + 480);
  must(store->set_keep(2));
  for (int i = 0; i < 6; ++i) must(store->create_layer("l" + std::to_string(i), 0));
  CHECK(store->history().size() == 2);
  store.reopen();
  CHECK(store->keep() == 2);
  must(store->set_keep(0));
  CHECK(store->history().empty());
  store.reopen();
  must(store->create_layer("last", 0));
  CHECK(store->history().empty());
  CHECK(store->set_keep(kMaxKept + 1).error().code == Errc::kInvalid);
  store.check();
}

TEST_CASE(
    "history: more than an eighth of the store is kept while as much is free, and no more when it "
    "is not") {
  TestStore store;  // 16384 blocks
  LayerId const id = must(store->create_layer("a", 0));
  put(*store, id, "f", std::string(20'000'000, 'x'));
  must(store->remove_layer(id));
  must(store->checkpoint());
  CHECK(store->space().history > 4880);  // 30 % of it
  CHECK(store->history().size() >= 2);
  LayerId const b = must(store->create_layer("b", 0));
  put(*store, b, "f", std::string(32'000'000, 'y'));
  must(store->checkpoint());
  must(store->checkpoint());
  auto const after = store->space();
  CHECK(after.history <= std::max(after.total / 8, after.free));
  CHECK(after.history < 2048);
  store.check();
}

TEST_CASE(
    "history: a long life between two operations holds what the checkpoint named, and nothing "
    "written since") {
  TestStore store;
  LayerId const id = must(store->create_layer("a", 0));
  put(*store, id, "old", std::string(1'000'000, 'o'));
  must(store->checkpoint());
  must(store->rename_layer(id, "b"));
  for (int i = 0; i < 40; ++i) {
    put(*store, id, "f", std::string(1'000'000, static_cast<char>('a' + i % 26)));
    must(store->checkpoint());
  }
  put(*store, id, "old", "new");
  must(store->checkpoint());
  must(store->checkpoint());
  auto const h = store->space().history;
  CHECK(h >= 245);  // the old file
  CHECK(h < 400);   // and few nodes
  store.reopen();
  CHECK(store->space().history <= h);
  CHECK(store->space().history >= 245);
}

TEST_CASE("history: a kept checkpoint that can't be read is let go of, and the store opens") {
  TestStore store;
  LayerId const id = must(store->create_layer("a", 0));
  put(*store, id, "f", "x");
  must(store->rename_layer(id, "b"));
  must(store->rename_layer(id, "c"));
  auto const history = store->history();
  auto const& broken = history[history.size() - 2].checkpoint;
  must(store->close());
  AlignedBuffer block(kBlockSize);
  auto const at = broken.root.block.get() * kBlockSize;
  must(store.device()->read(at, block.span()));
  block.data()[100] ^= std::byte{1};
  must(store.device()->write(at, std::span<std::byte const>(block.span())));
  CHECK(test::fsck_findings(*store.device()).find("restore point") != std::string::npos);
  store.reopen();
  CHECK(store->history().size() == 1);
  must(store->rename_layer(id, "d"));
  store.check();
}
