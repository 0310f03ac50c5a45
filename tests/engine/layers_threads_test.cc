// SPDX-License-Identifier: Apache-2.0
// Layers as things, by many threads at once.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "engine/store.h"
#include "tests/support/layer_files.h"
#include "tests/support/support.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

TEST_CASE(
    "commit: a running layer's object goes on while others write to it, and no operation fails") {
  TestStore store(256);
  LayerId id = must(store->create_layer("web", 0));
  auto const layer = must(store->layer(id));
  std::atomic<bool> stop{false};
  std::atomic<int> bad{0};
  constexpr int kThreads = 3;
  std::vector<std::uint64_t> last(kThreads);
  auto work = [&](int n) {
    std::string const name = "t" + std::to_string(n);
    auto const made = layer->create(layer->root(), name, {S_IFREG | 0644});
    if (!made || !layer->open(made->inode)) {
      ++bad;
      return;
    }
    for (std::uint64_t i = 1; !stop; ++i) {
      // The file is its counter, over and over: whatever freezes it must freeze one state of it.
      std::string const data(40000 + 8 * (i % 100), static_cast<char>('a' + i % 26));
      auto const w = layer->write(made->inode, 0, bytes_of(data));
      std::string back(data.size(), '?');
      auto const r =
          layer->read(made->inode, 0, std::as_writable_bytes(std::span{back.data(), back.size()}));
      if (!w || !r || back != data) ++bad;
      auto const x = layer->create(layer->root(), name + "-" + std::to_string(i), {S_IFREG | 0644});
      if (!x || (i % 7 == 0 && !layer->unlink(layer->root(), name + "-" + std::to_string(i))))
        ++bad;
      last[static_cast<std::size_t>(n)] = i;
    }
  };
  std::vector<std::thread> threads;
  for (int n = 0; n < kThreads; ++n) threads.emplace_back(work, n);
  std::vector<LayerId> frozen;
  for (int i = 0; i < 30; ++i) {
    LayerId const next = must(store->commit_layer(id, "snap" + std::to_string(i)));
    frozen.push_back(id);
    id = next;
    CHECK(layer->id() == id);
  }
  stop = true;
  for (auto& t : threads) t.join();
  CHECK(bad == 0);
  for (LayerId const f : frozen) {
    auto const snap = must(store->layer(f));
    CHECK(snap->frozen());
    for (auto const& [name, data] :
         files_of(*snap)) {  // every block's checksum holds; a write is in whole or not at all
      if (data.size() > 30000)
        CHECK(std::set<char>(data.begin(), data.begin() + 30000).size() == 1);
    }
    CHECK(snap->create(snap->root(), "no", {S_IFREG | 0644}).error().to_errno() == EROFS);
  }
  store.check();
}

TEST_CASE(
    "layers: threads that create, commit, rename and remove do not see each other, and readers see "
    "only whole layers") {
  TestStore store(256);
  std::atomic<bool> stop{false};
  std::atomic<int> bad{0}, read{0}, wrong_sums{0};
  auto live = [&](int n) {
    std::mt19937_64 rng(static_cast<std::uint64_t>(n));
    std::string const me = "t" + std::to_string(n) + "-";
    auto fill = [&](Layer& layer, char c) -> Status {
      for (int i = 0; i < 3; ++i) {
        std::string const name = "f" + std::to_string(i);
        if (!layer.lookup(layer.root(), name))
          LCFS_TRY(layer.create(layer.root(), name, {S_IFREG | 0644}));
        LCFS_TRY_ASSIGN(Attr const f, layer.lookup(layer.root(), name));
        LCFS_TRY(layer.write(f.inode, 0, bytes_of(std::string(30000, c))));
      }
      return {};
    };
    auto work = [&]() -> Status {
      for (int round = 0; round < 12; ++round) {
        std::string const name = me + std::to_string(round);
        LCFS_TRY_ASSIGN(LayerId id, store->create_layer(name, 0, {.quota_blocks = 5000}));
        LCFS_TRY_ASSIGN(auto layer, store->layer(id));
        std::vector<LayerId> below;
        for (int i = 0; i < 4; ++i) {
          LCFS_TRY(fill(*layer, static_cast<char>('a' + i)));
          below.push_back(id);
          LCFS_TRY_ASSIGN(id, store->commit_layer(id, name + "." + std::to_string(i)));
        }
        LCFS_TRY(store->rename_layer(id, name + "x"));
        LCFS_TRY_ASSIGN(LayerId const clone, store->create_layer(name + "clone", below[1]));
        if (rng() % 2) layer.reset();
        LCFS_TRY(store->remove_layer(id));
        if (layer) LCFS_TRY(fill(*layer, 'z'));
        LCFS_TRY(store->remove_layer(clone));
        for (auto it = below.rbegin(); it != below.rend(); ++it) LCFS_TRY(store->remove_layer(*it));
        if (layer) {
          LCFS_TRY(fill(*layer, 'y'));
          for (auto const& entry : files_of(*layer)) {
            if (entry.second != std::string(30000, 'y')) ++bad;
          }
        }
      }
      return {};
    };
    if (auto const ok = work(); !ok) {
      ++bad;
      MESSAGE(ok.error().text());
    }
  };
  auto look = [&] {
    while (!stop) {
      std::vector<LayerId> ids;
      must(store->for_each_layer([&](LayerInfo const& l) {
        if (l.state == LayerState::kFrozen) ids.push_back(l.id);
        return true;
      }));
      auto const use = must(store->space_use());
      std::uint64_t own = 0;
      for (auto const& l : use.layers) own += l.own_blocks;
      if (own > use.total.layers) ++wrong_sums;
      for (LayerId const id : ids) {
        (void)store->layer_space(id);
        auto const layer = store->layer(id);
        if (!layer) continue;                          // gone meanwhile
        for (auto const& entry : files_of(**layer)) {  // also checks checksums
          if (std::set<char>(entry.second.begin(), entry.second.end()).size() > 1) ++bad;
          ++read;
        }
      }
      store->drop_caches();
      CheckpointPin const pin = store->pin();
      must(store->checkpoint());
      (void)store->stats();
    }
  };
  std::thread reader(look);
  std::vector<std::thread> threads;
  for (int n = 0; n < 3; ++n) threads.emplace_back(live, n);
  for (auto& t : threads) t.join();
  stop = true;
  reader.join();
  CHECK(bad == 0);
  CHECK(read > 0);
  CHECK(wrong_sums == 0);
  for (int i = 0; i < 3; ++i) must(store->checkpoint());
  CHECK(store->space().layers == 0);
  store.check();
}
