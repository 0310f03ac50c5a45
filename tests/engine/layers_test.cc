// SPDX-License-Identifier: Apache-2.0
// Random lives of layers and images, against a model: whatever is created, committed, renamed,
// squashed, removed, held and undone.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "engine/import.h"
#include "engine/squash.h"
#include "engine/store.h"
#include "fsck/check.h"
#include "oci/sha256.h"
#include "tests/support/layer_files.h"
#include "tests/support/support.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

// What the listener was told, as a table of its own.
class Told final : public LayerEvents {
 public:
  void created(LayerInfo const& l) override { CHECK(table.emplace(l.serve_id, l).second); }
  void removed(LayerInfo const& l) override { CHECK(table.erase(l.serve_id) == 1); }
  void renamed(LayerInfo const& before, LayerInfo const& after) override {
    CHECK(table.at(before.serve_id).name == before.name);
    table[after.serve_id] = after;
  }
  void committed(LayerInfo const& frozen, LayerInfo const& running) override {
    CHECK(table.at(running.serve_id).id == frozen.id);
    CHECK(table.emplace(frozen.serve_id, frozen).second);
    table[running.serve_id] = running;
  }
  void changed(LayerInfo const& l) override { table.at(l.serve_id) = l; }
  std::map<std::uint64_t, LayerInfo> table;
};

struct ModelLayer {
  std::uint64_t serve_id = 0;
  bool open = true;
  Files files{};
  std::string parent{};
  int children = 0;
  std::shared_ptr<Layer> held{};   // somebody uses it
  bool anonymous = false;          // its name was taken away; here it is called "@ID"
  std::set<std::string> images{};  // configs of those that stand on it
};

// A layer that was removed while it was held.
struct Ghost {
  std::shared_ptr<Layer> layer{};
  bool open = true;
  Files files{};
};

struct History {
  explicit History(std::uint64_t seed) : rng(seed), store(std::make_unique<TestStore>(96)) {
    store->operator*().set_events(&told);
  }
  ~History() {
    ghosts.clear();
    layers.clear();
    store.reset();
  }

  std::mt19937_64 rng;
  Told told;
  std::unique_ptr<TestStore> store;
  std::map<std::string, ModelLayer> layers;
  std::map<std::string, std::set<std::string>> images;  // names, by config
  std::vector<Ghost> ghosts;
  int named = 0;
  // What was there at checkpoints that may be kept, by generation.
  struct Then {
    std::map<std::string, ModelLayer> layers{};
    std::map<std::string, std::set<std::string>> images{};
  };
  std::map<std::uint64_t, Then> states;
  int undone = 0;

  Store& s() { return **store; }
  std::string pick(bool open_only) {
    std::vector<std::string> names;
    for (auto const& [name, l] : layers) {
      if (l.open || !open_only) names.push_back(name);
    }
    return names.empty() ? std::string() : names[rng() % names.size()];
  }
  std::shared_ptr<Layer> object(std::string const& name) {
    auto& l = layers.at(name);
    if (l.held) return l.held;
    auto o = must(s().layer(must(s().resolve_layer(name))));
    if (rng() % 2) l.held = o;
    return o;
  }
  void change(Layer& layer, Files& files) {
    for (int i = 0; i < 3; ++i) {
      std::string const name = "f" + std::to_string(rng() % 8);
      if (rng() % 4 == 0) {
        CHECK(layer.unlink(layer.root(), name).ok() == (files.erase(name) == 1));
      } else {
        files[name] = some_data(rng);
        put(layer, name, files[name]);
      }
    }
  }
  void create() {
    std::string const name = "n" + std::to_string(named++);
    std::string const parent = rng() % 3 ? pick(false) : std::string();
    must(s().create_layer(name, parent.empty() ? 0 : must(s().resolve_layer(parent)),
                          {.quota_blocks = rng() % 2 ? 20000u : 0u}));
    ModelLayer l;
    if (!parent.empty()) {
      auto& p = layers.at(parent);
      p.open = false;
      ++p.children;
      l.files = p.files;
      l.parent = parent;
    }
    l.serve_id = must(s().layer_info(must(s().resolve_layer(name)))).serve_id;
    layers[name] = l;
  }
  void commit(std::string const& name) {
    std::string const as = "n" + std::to_string(named++);
    auto& l = layers.at(name);
    LayerId const old = must(s().resolve_layer(name));
    LayerId const now = must(s().commit_layer(old, as));
    CHECK(now != old);
    CHECK(must(s().resolve_layer(name)) == now);
    CHECK(must(s().resolve_layer(as)) == old);
    if (l.held) CHECK(l.held->id() == now);
    ModelLayer frozen;
    frozen.open = false;
    frozen.files = l.files;
    frozen.parent = l.parent;
    frozen.children = 1;
    frozen.serve_id = must(s().layer_info(old)).serve_id;
    l.parent = as;
    layers[as] = frozen;
    CHECK(s().commit_layer(old, "again").error().code == Errc::kReadOnly);
    CHECK(s().commit_layer(now, as).error().code == Errc::kExists);
  }
  void rename(std::string const& name) {
    std::string const to = "r" + std::to_string(named++);
    LayerId const id = must(s().resolve_layer(name));
    if (!layers.at(name).anonymous) must(s().rename_layer(id, name));  // nothing happens
    CHECK(s().rename_layer(id, "bad/name").error().code == Errc::kInvalid);
    must(s().rename_layer(id, to));
    for (auto& [n, l] : layers) {
      if (l.parent == name) l.parent = to;
    }
    called(name, to).anonymous = false;
  }
  ModelLayer& called(std::string const& name, std::string const& to) {
    for (auto& [n, l] : layers) {
      if (l.parent == name) l.parent = to;
    }
    auto node = layers.extract(name);
    node.key() = to;
    return layers.insert(std::move(node)).position->second;
  }
  void remove(std::string const& name, Remove how = Remove::kUnused) {
    auto& l = layers.at(name);
    bool const needed = l.children != 0 || !l.images.empty();
    LayerId const id = must(s().resolve_layer(name));
    auto const r = s().remove_layer(id, how);
    CHECK(r.ok() == (!needed || how == Remove::kLazy));
    if (!r) {
      CHECK(r.error().code == Errc::kBusy);
      return;
    }
    if (!needed) {
      gone(name);
    } else if (!l.anonymous) {
      called(name, "@" + std::to_string(id)).anonymous = true;
      CHECK(s().resolve(name).error().code == Errc::kNotFound);
    }
  }
  // The layer, and those without a name below it that nothing else stands on.
  void gone(std::string name) {
    while (!name.empty()) {
      auto const l = layers.at(name);
      if (l.held) ghosts.push_back({l.held, l.open, l.files});
      layers.erase(name);
      name = l.parent;
      if (name.empty()) return;
      auto& below = layers.at(name);
      --below.children;
      if (!below.anonymous || below.children != 0 || !below.images.empty()) return;
    }
  }
  void squash(std::string const& what) {
    std::string const name = "s" + std::to_string(named++),
                      onto = rng() % 3 ? pick(false) : std::string();
    std::atomic<bool> const stop{false};
    LayerId const id = must(squash_layer(s(), onto.empty() ? 0 : must(s().resolve_layer(onto)),
                                         must(s().resolve_layer(what)), name, stop));
    ModelLayer l;
    l.open = false;
    l.files = layers.at(what).files;
    if (!onto.empty()) {
      layers.at(onto).open = false;
      ++layers.at(onto).children;
    }
    l.parent = onto;
    l.serve_id = must(s().layer_info(id)).serve_id;
    layers[name] = l;
  }
  // An image on a frozen layer, with one of a few names, which may move here.
  void image(std::string const& top) {
    auto& l = layers.at(top);
    if (l.open) return;
    NewImage image;
    image.config = "config " + std::to_string(named++);
    image.manifest = "m";
    image.config_digest = oci::sha256(image.config);
    image.manifest_digest = oci::sha256(image.manifest);
    image.top_layer = must(s().resolve_layer(top));
    for (LayerId at = image.top_layer; at != 0; at = must(s().layer_info(at)).parent)
      ++image.layer_count;
    image.names = {"image:" + std::to_string(rng() % 3)};
    for (auto& other : images) other.second.erase(image.names[0]);
    must(s().make_image(image, {}));
    images[image.config] = {image.names[0]};
    l.images.insert(image.config);
  }
  void tag() {
    if (images.empty()) return;
    auto const chosen =
        std::next(images.begin(), static_cast<std::ptrdiff_t>(rng() % images.size()));
    std::string const name = "image:" + std::to_string(rng() % 5);
    must(s().tag_image(image_id(chosen->first), {name}));
    for (auto& other : images) other.second.erase(name);
    chosen->second.insert(name);
  }
  ImageId image_id(std::string const& config) {
    return must(s().resolve_image(digest_text(oci::sha256(config))));
  }
  void drop_image() {
    if (images.empty()) return;
    auto const chosen =
        std::next(images.begin(), static_cast<std::ptrdiff_t>(rng() % images.size()));
    auto const config = chosen->first;
    bool const by_name = !chosen->second.empty() && rng() % 2 != 0;
    std::string const name = by_name ? *chosen->second.begin() : std::string();
    must(s().remove_image(image_id(config), name));
    chosen->second.erase(name);
    if (by_name && !chosen->second.empty()) return;
    images.erase(config);
    for (auto& [top, l] : layers) {
      if (l.images.erase(config) == 0) continue;
      if (l.anonymous && l.children == 0 && l.images.empty()) gone(top);
      return;
    }
  }
  void remember() {
    must(s().checkpoint());
    auto& then = states[s().superblock().generation] = {layers, images};
    for (auto& entry : then.layers) entry.second.held.reset();
  }
  // To any of the kept checkpoints at which it was remembered what there is.
  void undo() {
    end_of_use();  // nobody may have a layer then
    remember();    // this can be undone in turn
    std::vector<std::uint64_t> known;
    for (auto const& h : s().history()) {
      if (states.contains(h.checkpoint.generation)) known.push_back(h.checkpoint.generation);
    }
    if (known.empty()) return;
    auto const generation = known[rng() % known.size()];
    must(s().go_back(generation));
    layers = states.at(generation).layers;
    images = states.at(generation).images;
    told.table.clear();  // of a store that nobody uses nobody is told anything
    for (auto const& l : all_layers(s())) {
      if (!l.anonymous) told.table[l.serve_id] = l;
    }
    ++undone;
    compare();
  }
  void step() {
    if (rng() % 3 == 0) remember();
    std::string const open = pick(true), any = pick(false);
    switch (any.empty() ? 0 : rng() % 21) {
      case 0:
      case 1: create(); break;
      case 2:
      case 3:
        if (!open.empty()) commit(open);
        break;
      case 4: rename(any); break;
      case 5:
      case 6: remove(any); break;
      case 7: layers.at(any).held.reset(); break;
      case 8:
        if (!ghosts.empty())
          ghosts.erase(ghosts.begin() + static_cast<std::ptrdiff_t>(rng() % ghosts.size()));
        break;
      case 9:
        if (!open.empty())
          must(s().set_quota(must(s().resolve_layer(open)), rng() % 2 ? 0 : 15000));
        break;
      case 10: must(s().checkpoint()); break;
      case 11:
      case 12: remove(any, Remove::kLazy); break;
      case 13: squash(any); break;
      case 14: image(any); break;
      case 15: tag(); break;
      case 16: drop_image(); break;
      case 17: undo(); break;
      default:
        if (!open.empty()) change(*object(open), layers.at(open).files);
        for (auto& g : ghosts) {
          if (g.open && rng() % 2) change(*g.layer, g.files);
        }
    }
  }
  void compare() {
    std::map<std::string, LayerInfo> infos;
    for (auto const& info : all_layers(s())) infos[info.name] = info;
    REQUIRE(infos.size() == layers.size());
    for (auto& entry : layers) {
      auto const& name = entry.first;
      auto& l = entry.second;
      CAPTURE(name);
      REQUIRE(infos.contains(name));
      auto const& info = infos.at(name);
      CHECK((info.state == LayerState::kOpen) == l.open);
      CHECK(info.children == static_cast<std::uint64_t>(l.children));
      CHECK(info.images == l.images.size());
      CHECK(info.anonymous == l.anonymous);
      CHECK(info.serve_id == l.serve_id);
      CHECK((info.parent == 0 ? "" : must(s().layer_info(info.parent)).name) == l.parent);
      auto const object = must(s().layer(info.id));
      if (l.held) CHECK(object == l.held);
      CHECK(files_of(*object) == l.files);
      if (l.anonymous) {
        CHECK_FALSE(told.table.contains(l.serve_id));
        continue;
      }
      auto const told_of = told.table.find(l.serve_id);
      REQUIRE(told_of != told.table.end());
      CHECK(told_of->second.name == name);
      CHECK(told_of->second.id == info.id);
      CHECK(told_of->second.state == info.state);
      CHECK(told_of->second.quota_blocks == info.quota_blocks);
    }
    auto const named_layers = std::count_if(
        layers.begin(), layers.end(), [](auto const& entry) { return !entry.second.anonymous; });
    CHECK(told.table.size() == static_cast<std::size_t>(named_layers));
    std::set<std::set<std::string>> have, want;
    must(s().for_each_image([&have](ImageDetails const& image) {
      have.insert({image.names.begin(), image.names.end()});
      return true;
    }));
    for (auto const& entry : images) want.insert(entry.second);
    CHECK(have == want);
    for (auto const& g : ghosts) CHECK(files_of(*g.layer) == g.files);
  }
  void end_of_use() {
    ghosts.clear();
    for (auto& entry : layers) entry.second.held.reset();
  }
};

}  // namespace

TEST_CASE(
    "layers: random lives of a store are those of a table of maps, whatever is held, committed, "
    "removed or undone meanwhile") {
  // LCFS_SEEDS=N: as many lives, for a long search.
  std::uint64_t const seeds = number_from("LCFS_SEEDS", 12);
  int undone = 0;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    CAPTURE(seed);
    History h(seed);
    for (int i = 0; i < 120; ++i) {
      CAPTURE(i);
      h.step();
      if (i % 6 == 0) h.compare();
      if (i % 20 == 19) {
        h.store->check();
        fsck::Options whole;
        whole.walk_all = true;
        auto const a = must(fsck::check(*h.store->device(), {})),
                   b = must(fsck::check(*h.store->device(), whole));
        CHECK(b.clean());
        CHECK(a.counters.inodes == b.counters.inodes);
        CHECK(a.counters.layer_data == b.counters.layer_data);
        CHECK(a.counters.data_checked == b.counters.data_checked);
      }
      if (i % 40 == 39) {
        must(h.s().checkpoint());
        h.end_of_use();
        if (h.rng() % 2) {
          h.store->reopen();
        } else {
          h.store->crash();
        }
        h.s().set_events(&h.told);
        h.compare();
        h.store->check();
      }
    }
    h.compare();
    h.end_of_use();
    h.store->check();
    // All blocks of removed layers come back.
    while (!h.images.empty()) h.drop_image();
    while (!h.layers.empty()) {
      std::string name;
      for (auto const& [n, l] : h.layers) {
        if (l.children == 0) name = n;
      }
      h.remove(name);
    }
    for (int i = 0; i < 3; ++i) must(h.s().checkpoint());
    CHECK(h.s().space().layers == 0);
    undone += h.undone;
  }
  CHECK(undone > 0);
}
