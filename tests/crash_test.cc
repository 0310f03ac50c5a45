// SPDX-License-Identifier: Apache-2.0
// Power cuts: after any write, with any choice of the writes in flight, the store opens, is clean, and holds exactly the state
// of a checkpoint that is not older than what was promised (I1, I4, I10).
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <map>
#include <random>

#include "engine/import.h"
#include "engine/store.h"
#include "importer/sha256.h"
#include "tests/support/faulty_device.h"
#include "tests/support/recording_device.h"
#include "tests/support/test_store.h"

using namespace lcfs;
using lcfs::test::must;
using lcfs::test::RecordingDevice;
using lcfs::test::SharedDevice;

namespace {

// Every layer's name with its files and their contents; images as "image NAME".
using State = std::map<std::string, std::map<std::string, std::string>>;

State state_of(Store& store) {
  State out;
  std::vector<LayerInfo> layers;
  must(store.for_each_layer([&](LayerInfo const& l) {
    layers.push_back(l);
    return true;
  }));
  for (auto const& info : layers) {
    auto& files = out[info.name];
    files["/"] = std::to_string(static_cast<int>(info.state)) + " serves " + std::to_string(info.serve_id) + " quota " +
                 std::to_string(info.quota_blocks);
    auto layer = must(store.layer(info.id));
    std::vector<std::pair<std::string, Inode>> entries;
    must(layer->readdir(layer->root(), 0, [&](DirEntry const& e) {
      entries.emplace_back(e.name, e.inode);
      return true;
    }));
    for (auto const& [name, inode] : entries) {
      std::string data(must(layer->getattr(inode)).info.size, '?');
      must(layer->read(inode, 0, std::as_writable_bytes(std::span{data.data(), data.size()})));
      files[name] = data;
    }
  }
  must(store.for_each_image([&](ImageDetails const& d) {
    for (auto const& n : d.names) out["image " + n];
    return true;
  }));
  out["store"]["blocks"] = std::to_string(store.space().total);
  return out;
}

struct Promise {
  std::size_t log = 0;            // effects on the device when the promise was made
  std::uint64_t generation = 0;
};

// A random life of a store, recorded.
struct Life {
  std::shared_ptr<RecordingDevice> recorder;
  std::map<std::uint64_t, State> states;  // by generation
  std::vector<Promise> promises;

  explicit Life(std::shared_ptr<Device> disk) : recorder(std::make_shared<RecordingDevice>(*disk)), disk_(std::move(disk)) {}

  void promise(Store& store) {
    auto const generation = store.superblock().generation;
    states[generation] = state_of(store);
    promises.push_back({recorder->effects(), generation});
  }

  void live(std::uint64_t seed, int steps) {
    std::mt19937_64 rng(seed);
    OpenOptions options;
    options.dirty_data_file = 64u << 10;  // data is also placed between checkpoints
    auto store = must(Store::open(std::make_unique<SharedDevice>(recorder), options));
    promise(*store);
    std::vector<LayerId> open;
    std::vector<std::shared_ptr<Layer>> removed;  // in use meanwhile
    int named = 0;
    for (int i = 0; i < steps; ++i) {
      switch (open.empty() ? 0 : rng() % 16) {
        case 0: {
          LayerId const parent = open.empty() || rng() % 2 ? 0 : open[rng() % open.size()];
          LayerId const id = must(store->create_layer("l" + std::to_string(named++), parent));
          std::erase(open, parent);
          open.push_back(id);
          break;
        }
        case 1: import(*store, rng, named++); break;
        case 2: {
          LayerId const id = open[rng() % open.size()];
          if (rng() % 2) removed.push_back(must(store->layer(id)));
          must(store->remove_layer(id));
          std::erase(open, id);
          break;
        }
        case 3: case 4: {
          LayerId& id = open[rng() % open.size()];
          if (rng() % 2) {
            auto const layer = must(store->layer(id));
            write(*layer, rng);
            id = must(store->commit_layer(id, "c" + std::to_string(named++)));
            write(*layer, rng);
            must(store->checkpoint());
          } else {
            id = must(store->commit_layer(id, "c" + std::to_string(named++)));
          }
          break;
        }
        case 5: must(store->rename_layer(open[rng() % open.size()], "r" + std::to_string(named++))); break;
        case 6: must(store->set_quota(open[rng() % open.size()], 5000 + rng() % 100)); break;
        case 7: must(store->grow(store->space().total * kBlockSize + (1u << 20))); break;
        case 8:
          if (removed.empty()) break;
          write(*removed.back(), rng);
          must(store->checkpoint());
          if (rng() % 2) removed.pop_back();
          break;
        case 9: {
          // Back, as a whole: nobody may have a layer then.
          removed.clear();
          auto const history = store->history();
          if (history.empty()) break;
          must(store->go_back(history[rng() % history.size()].checkpoint.generation));
          open.clear();
          must(store->for_each_layer([&open](LayerInfo const& l) {
            if (l.state == LayerState::kOpen) open.push_back(l.id);
            return true;
          }));
          break;
        }
        case 10: {
          auto const history = store->history();
          if (history.empty()) break;
          auto const then = must(store->kept_contents(history[rng() % history.size()].checkpoint.generation)).layers;
          if (then.empty()) break;
          auto const back = store->bring_back(then[rng() % then.size()].name, 0, "b" + std::to_string(named++));
          if (back && back->back().state == LayerState::kOpen) open.push_back(back->back().id);
          break;
        }
        default: write(*must(store->layer(open[rng() % open.size()])), rng); must(store->checkpoint());
      }
      promise(*store);
    }
    removed.clear();
  }

 private:
  void write(Layer& layer, std::mt19937_64& rng) {
    for (int i = 0; i < 3; ++i) {
      std::string const name = "f" + std::to_string(rng() % 6);
      auto at = layer.lookup(layer.root(), name);
      Inode const inode = at ? at->inode : must(layer.create(layer.root(), name, {S_IFREG | 0644})).inode;
      if (rng() % 5 == 0) {
        must(layer.unlink(layer.root(), name));
        continue;
      }
      std::string const data(rng() % 3 == 0 ? 500 : rng() % 150000, static_cast<char>('a' + rng() % 26));
      must(layer.write(inode, rng() % 50000, std::as_bytes(std::span{data.data(), data.size()})));
    }
  }
  void import(Store& store, std::mt19937_64& rng, int number) {
    ImportTransaction tx(store);
    LayerId parent = 0;
    for (int l = 0; l < 2; ++l) {
      auto ingest = must(tx.begin_layer());
      std::string const data(rng() % 200000, static_cast<char>('A' + rng() % 26));
      ingest->begin_content(data.size());
      must(ingest->append(std::as_bytes(std::span{data.data(), data.size()})));
      Content const c = must(ingest->end_content());
      must(ingest->delta().add_file("imported" + std::to_string(l), {.permissions = 0644}, c));
      LayerMeta meta;
      meta.chain_id.fill(static_cast<std::uint8_t>(number));
      meta.chain_id[8] = static_cast<std::uint8_t>(l);
      meta.chain_id[0] = static_cast<std::uint8_t>(rng());
      parent = must(tx.stack(*ingest, parent, meta));
    }
    NewImage image;
    image.config = "{\"n\":" + std::to_string(number) + "}";
    image.manifest = "{}";
    image.config_digest = importer::sha256(image.config);
    image.manifest_digest = importer::sha256(image.manifest);
    image.names = {"image:" + std::to_string(number)};
    image.top_layer = parent;
    image.layer_count = 2;
    must(tx.add_image(image));
    must(tx.commit());
  }
  std::shared_ptr<Device> disk_;
};

// What is wrong with the disk that a power cut left; empty: nothing.
std::string verdict(Life const& life, std::size_t n, std::unique_ptr<Device> disk) {
  std::shared_ptr<Device> shared(std::move(disk));
  if (auto found = test::fsck_findings(*shared); !found.empty()) return "fsck: " + found;
  OpenOptions options;
  options.read_only = true;
  auto store = Store::open(std::make_unique<SharedDevice>(shared), options);
  if (!store) return "open: " + store.error().text();
  auto const generation = (*store)->superblock().generation;
  std::uint64_t promised = 0;
  for (auto const& p : life.promises) {
    if (p.log <= n) promised = p.generation;
  }
  if (generation < promised) return "a promise is broken";
  // What is kept reads as it was (fsck has read all of it).
  for (auto const& k : (*store)->history()) {
    auto const was = life.states.find(k.checkpoint.generation);
    if (was == life.states.end()) continue;
    OpenOptions then;
    then.at = k.checkpoint.generation;
    auto old = Store::open(std::make_unique<SharedDevice>(shared), then);
    if (!old) return "opening a kept checkpoint: " + old.error().text();
    try {
      auto is = state_of(**old);
      is["store"] = was->second.at("store");  // its size is today's
      if (is != was->second) return "a kept checkpoint is not what it was";
    } catch (std::runtime_error const& e) {
      return std::string("reading a kept checkpoint: ") + e.what();
    }
  }
  auto const want = life.states.find(generation);
  if (want == life.states.end()) return {};  // between two steps of one operation: clean is all that can be asked
  try {
    if (state_of(**store) != want->second) return "the state is not that of its checkpoint";
  } catch (std::runtime_error const& e) {
    return std::string("reading: ") + e.what();
  }
  return {};
}

std::shared_ptr<Device> fresh_disk() {
  std::shared_ptr<Device> disk = make_memory_device(32u << 20);
  must(Store::format(*disk, {}));
  return disk;
}

// Says that flushes happened, and does nothing: what a harness must catch.
class NoFlush final : public SharedDevice {
 public:
  using SharedDevice::SharedDevice;
  Status flush() override { return ++count_ % 2 == 1 ? Status{} : below_->flush(); }  // every first of two

 private:
  int count_ = 0;
};

}  // namespace

TEST_CASE("crash: after any effect, whatever of the writes in flight arrived, a checkpoint stands, whole, and no promise is broken") {
  // LCFS_SEEDS=N: as many lives, for a long search.
  char const* const many = std::getenv("LCFS_SEEDS");
  std::uint64_t const seeds = many != nullptr ? std::strtoull(many, nullptr, 10) : 4;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    Life life(fresh_disk());
    life.live(seed, 16);
    std::size_t const effects = life.recorder->effects();
    CAPTURE(seed);
    for (std::size_t n = 0; n <= effects; ++n) {
      CAPTURE(n);
      REQUIRE(verdict(life, n, life.recorder->crash_after(n, test::none_survive())) == "");
      REQUIRE(verdict(life, n, life.recorder->crash_after(n, test::all_survive())) == "");
      REQUIRE(verdict(life, n, life.recorder->crash_after(n, test::some_survive(seed * 1000 + n))) == "");
    }
  }
}

TEST_CASE("crash: the harness sees a checkpoint that forgets to flush before it writes the superblock") {
  std::shared_ptr<Device> const disk = fresh_disk();
  // The liar sits between the store and the recorder, so the log lacks the flushes that it swallowed.
  auto recorder = std::make_shared<RecordingDevice>(*disk);
  Life life(disk);
  {
    auto store = must(Store::open(std::make_unique<NoFlush>(recorder), {}));
    for (int i = 0; i < 6; ++i) must(store->create_layer("l" + std::to_string(i), 0));
  }
  bool caught = false;
  for (std::size_t n = 0; n <= recorder->effects() && !caught; ++n) {
    for (std::uint64_t seed = 0; seed < 4 && !caught; ++seed) {
      caught = !verdict(life, n, recorder->crash_after(n, test::some_survive(seed))).empty();
    }
  }
  CHECK(caught);
}

TEST_CASE("fault: each effect refused in turn is told, the store stays clean, and what was durable stays") {
  for (int sys : {EIO, ENOSPC}) {
    for (std::uint64_t nth = 1;; ++nth) {
      CAPTURE(sys);
      CAPTURE(nth);
      std::shared_ptr<Device> const disk = fresh_disk();
      auto faulty = std::make_shared<test::FaultyDevice>(*disk);
      bool told = false, fired = false;
      {
        auto store = must(Store::open(std::make_unique<SharedDevice>(faulty), {}));
        must(store->create_layer("before", 0));
        faulty->fail_effect(nth, sys);
        auto work = [&]() -> Status {
          LCFS_TRY_ASSIGN(LayerId const id, store->create_layer("a", 0));
          LCFS_TRY_ASSIGN(auto layer, store->layer(id));
          LCFS_TRY_ASSIGN(Attr const f, layer->create(layer->root(), "f", {S_IFREG | 0644}));
          std::string const data(300000, 'x');
          LCFS_TRY(layer->write(f.inode, 0, std::as_bytes(std::span{data.data(), data.size()})));
          LCFS_TRY(layer->fsync(f.inode));
          LCFS_TRY_ASSIGN(LayerId const running, store->create_layer("b", id));
          LCFS_TRY_ASSIGN(auto const in_use, store->layer(running));
          LCFS_TRY(in_use->create(in_use->root(), "g", {S_IFREG | 0644}));
          LCFS_TRY_ASSIGN(LayerId const next, store->commit_layer(running, "snap"));
          LCFS_TRY(store->rename_layer(running, "snapshot"));
          LCFS_TRY(store->set_quota(next, 1000));
          LCFS_TRY(store->grow(33u << 20));
          LCFS_TRY(store->remove_layer(next));
          LCFS_TRY(in_use->create(in_use->root(), "h", {S_IFREG | 0644}));
          return store->close();
        };
        auto const r = work();
        told = !r.ok();
        if (told) CHECK(r.error().to_errno() != 0);
        // Either it goes on as if nothing had been, or it says why it does not.
        auto const next = store->create_layer("next", 0);
        if (!next && told) CHECK(next.error().code == Errc::kReadOnly);
        fired = faulty->fired();
      }
      CHECK(test::fsck_findings(*disk) == "");
      auto store = must(Store::open(std::make_unique<SharedDevice>(disk), {}));
      CHECK(state_of(*store).contains("before"));
      if (!fired) break;  // every effect has had its turn
      REQUIRE(nth < 200);
    }
  }
}
