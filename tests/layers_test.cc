// SPDX-License-Identifier: Apache-2.0
// Layers as things, against models: create, commit, rename, remove, quota, growth; events, pins and statistics.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <map>
#include <random>
#include <set>

#include "engine/import.h"
#include "engine/squash.h"
#include "engine/store.h"
#include "importer/sha256.h"
#include "fsck/check.h"
#include "tests/support/test_store.h"

using namespace lcfs;
using lcfs::test::must;
using lcfs::test::TestStore;

namespace {

using Files = std::map<std::string, std::string>;

std::span<std::byte const> bytes_of(std::string const& s) { return std::as_bytes(std::span{s.data(), s.size()}); }

std::string content(Layer& layer, Inode inode) {
  std::string data(must(layer.getattr(inode)).info.size, '?');
  must(layer.read(inode, 0, std::as_writable_bytes(std::span{data.data(), data.size()})));
  return data;
}

Files files_of(Layer& layer) {
  std::vector<std::pair<std::string, Inode>> entries;
  must(layer.readdir(layer.root(), 0, [&](DirEntry const& e) {
    entries.emplace_back(e.name, e.inode);
    return true;
  }));
  Files out;
  for (auto const& [name, inode] : entries) out[name] = content(layer, inode);
  return out;
}

Inode put(Layer& layer, std::string const& name, std::string const& data) {
  auto at = layer.lookup(layer.root(), name);
  Inode const inode = at ? at->inode : must(layer.create(layer.root(), name, {S_IFREG | 0644})).inode;
  must(layer.setattr(inode, {.size = 0}));
  REQUIRE(must(layer.write(inode, 0, bytes_of(data))) == data.size());
  return inode;
}

std::string some_data(std::mt19937_64& rng) {
  std::size_t const sizes[] = {0, 1, 100, 2048, 5000, 70000, 300000};
  std::string data(rng() % (sizes[rng() % std::size(sizes)] + 1), '\0');
  char const base = static_cast<char>('a' + rng() % 20);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(base + static_cast<char>((i / 1000) % 5));
  return data;
}

std::vector<LayerInfo> all_layers(Store& store) {
  std::vector<LayerInfo> out;
  must(store.for_each_layer([&](LayerInfo const& l) {
    out.push_back(l);
    return true;
  }));
  return out;
}

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
  std::shared_ptr<Layer> held{};  // somebody uses it
  bool anonymous = false;         // its name was taken away; here it is called "@ID"
  std::set<std::string> images{}; // configs of those that stand on it
};

// A layer that was removed while it was held.
struct Ghost {
  std::shared_ptr<Layer> layer{};
  bool open = true;
  Files files{};
};

struct History {
  explicit History(std::uint64_t seed) : rng(seed), store(std::make_unique<TestStore>(96)) { store->operator*().set_events(&told); }
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
    must(s().create_layer(name, parent.empty() ? 0 : must(s().resolve_layer(parent)), {.quota_blocks = rng() % 2 ? 20000u : 0u}));
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
    std::string const name = "s" + std::to_string(named++), onto = rng() % 3 ? pick(false) : std::string();
    std::atomic<bool> const stop{false};
    LayerId const id = must(squash_layer(s(), onto.empty() ? 0 : must(s().resolve_layer(onto)), must(s().resolve_layer(what)), name, stop));
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
    image.config_digest = importer::sha256(image.config);
    image.manifest_digest = importer::sha256(image.manifest);
    image.top_layer = must(s().resolve_layer(top));
    for (LayerId at = image.top_layer; at != 0; at = must(s().layer_info(at)).parent) ++image.layer_count;
    image.names = {"image:" + std::to_string(rng() % 3)};
    for (auto& other : images) other.second.erase(image.names[0]);
    must(s().make_image(image, {}));
    images[image.config] = {image.names[0]};
    l.images.insert(image.config);
  }
  void tag() {
    if (images.empty()) return;
    auto const chosen = std::next(images.begin(), static_cast<std::ptrdiff_t>(rng() % images.size()));
    std::string const name = "image:" + std::to_string(rng() % 5);
    must(s().tag_image(image_id(chosen->first), {name}));
    for (auto& other : images) other.second.erase(name);
    chosen->second.insert(name);
  }
  ImageId image_id(std::string const& config) { return must(s().resolve_image(digest_text(importer::sha256(config)))); }
  void drop_image() {
    if (images.empty()) return;
    auto const chosen = std::next(images.begin(), static_cast<std::ptrdiff_t>(rng() % images.size()));
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
  void step() {
    std::string const open = pick(true), any = pick(false);
    switch (any.empty() ? 0 : rng() % 20) {
      case 0: case 1: create(); break;
      case 2: case 3: if (!open.empty()) commit(open); break;
      case 4: rename(any); break;
      case 5: case 6: remove(any); break;
      case 7: layers.at(any).held.reset(); break;
      case 8: if (!ghosts.empty()) ghosts.erase(ghosts.begin() + static_cast<std::ptrdiff_t>(rng() % ghosts.size())); break;
      case 9: if (!open.empty()) must(s().set_quota(must(s().resolve_layer(open)), rng() % 2 ? 0 : 15000)); break;
      case 10: must(s().checkpoint()); break;
      case 11: case 12: remove(any, Remove::kLazy); break;
      case 13: squash(any); break;
      case 14: image(any); break;
      case 15: tag(); break;
      case 16: drop_image(); break;
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
    auto const named_layers = std::count_if(layers.begin(), layers.end(), [](auto const& entry) { return !entry.second.anonymous; });
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

TEST_CASE("layers: random lives of a store are those of a table of maps, whatever is held, committed or removed meanwhile") {
  // LCFS_SEEDS=N: as many lives, for a long search.
  char const* const many = std::getenv("LCFS_SEEDS");
  std::uint64_t const seeds = many != nullptr ? std::strtoull(many, nullptr, 10) : 12;
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
        auto const a = must(fsck::check(*h.store->device(), {})), b = must(fsck::check(*h.store->device(), whole));
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
  }
}

TEST_CASE("commit: a file without a name stays open in the running layer, and fsck accepts it in the frozen one") {
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

TEST_CASE("remove: a layer in use goes on, its ancestors too, and their blocks come back when it is let go") {
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

TEST_CASE("grow: a full store has room again, twice, and is as large as it says when opened again") {
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

TEST_CASE("pin: what a pinned checkpoint reaches stays on the device, while the running store writes on") {
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

TEST_CASE("statistics: counters move, the node cache shrinks and empties") {
  TestStore store;
  LayerId const id = must(store->create_layer("a", 0));
  auto const layer = must(store->layer(id));
  for (int i = 0; i < 2000; ++i) must(layer->create(layer->root(), "f" + std::to_string(i), {S_IFREG | 0644}));
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
