// SPDX-License-Identifier: Apache-2.0
// The file API against a model in memory: random streams of operations, several layers deep, with
// reopening in between.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <thread>

#include "engine/layer.h"
#include "engine/store.h"
#include "tests/support/test_store.h"

using namespace lcfs;
using lcfs::test::must;
using lcfs::test::TestStore;

namespace {

struct File {
  std::uint32_t mode = 0;
  std::string data{};                      // files, symlinks
  std::map<std::string, Inode> entries{};  // directories
  std::map<std::string, std::string> xattrs{};
  std::uint32_t links = 0;
};
struct Model {
  std::map<Inode, File> files{};  // links == 0: held though it has no name
  Inode root = 0;
};

std::span<std::byte const> bytes(std::string_view s) {
  return std::as_bytes(std::span{s.data(), s.size()});
}

std::string read_all(Layer& layer, Inode inode, std::uint64_t size) {
  std::string out(size, '?');
  std::size_t const n =
      must(layer.read(inode, 0, std::as_writable_bytes(std::span{out.data(), out.size()})));
  out.resize(n);
  return out;
}

// Every name, attribute and byte.
void check_same(Layer& layer, Model const& model) {
  std::vector<Inode> todo{model.root};
  std::map<Inode, std::uint32_t> seen;
  REQUIRE(layer.root() == model.root);
  while (!todo.empty()) {
    Inode const at = todo.back();
    todo.pop_back();
    File const& want = model.files.at(at);
    std::map<std::string, Inode> entries;
    must(layer.readdir(at, 0, [&](DirEntry const& e) {
      CHECK(entries.emplace(e.name, e.inode).second);
      return true;
    }));
    CHECK(entries == want.entries);
    std::size_t told = 0;
    must(layer.readdir_attrs(at, 0, [&](DirEntry const& e, Attr const& a) {
      ++told;
      CHECK(e.cookie >= 256);
      CHECK(want.entries.at(e.name) == e.inode);
      CHECK(a.inode == e.inode);
      CHECK(a.info == must(layer.getattr(e.inode)).info);
      return true;
    }));
    CHECK(told == want.entries.size());
    for (auto const& entry : want.entries) {
      std::string const& name = entry.first;
      Inode const inode = entry.second;
      CAPTURE(name);
      File const& f = model.files.at(inode);
      Attr const attr = must(layer.lookup(at, name));
      REQUIRE(attr.inode == inode);
      CHECK(attr.info.mode == f.mode);
      if (S_ISDIR(f.mode)) {
        CHECK(must(layer.parent_of(inode)) == at);
        todo.push_back(inode);
        continue;
      }
      if (seen[inode]++ != 0) continue;
      CHECK(attr.info.nlink == f.links);
      CHECK(attr.info.size == f.data.size());
      if (S_ISLNK(f.mode)) CHECK(must(layer.readlink(inode)) == f.data);
      if (S_ISREG(f.mode)) CHECK((read_all(layer, inode, f.data.size()) == f.data));
      auto names = must(layer.listxattr(inode));
      CHECK(names.size() == f.xattrs.size());
      for (auto const& [key, value] : f.xattrs) CHECK((must(layer.getxattr(inode, key)) == value));
    }
  }
  for (auto const& [inode, f] : model.files) {
    if (f.links != 0 || !S_ISREG(f.mode)) continue;
    CHECK(must(layer.getattr(inode)).info.nlink == 0);
    CHECK((read_all(layer, inode, f.data.size() + 1) == f.data));
  }
}

class Driver {
 public:
  Driver(std::uint64_t seed) : rng_(seed) {}

  // Below the layer, to copy from.
  void set_base(Layer* layer, Model const* model) {
    base_ = layer;
    base_model_ = model;
  }
  // Held inodes go: one by one, or all at once.
  void forget_all(Layer& layer, Model& m) {
    bool const off = rng_() % 2 != 0;
    if (off) must(layer.hold_unlinked(false));
    std::erase_if(m.files, [&](auto const& file) {
      must(layer.forget(file.first));
      if (file.second.links != 0) return false;
      CHECK(layer.getattr(file.first).error().to_errno() == ENOENT);
      return true;
    });
    if (!off) must(layer.hold_unlinked(false));
  }

  void step(Layer& layer, Model& m) {
    switch (rng_() % 21) {
      case 0: return make(layer, m, S_IFREG | 0644);
      case 1: return make(layer, m, S_IFDIR | 0755);
      case 2: return make(layer, m, rng_() % 2 ? S_IFIFO | 0600 : S_IFCHR | 0600);
      case 3: return make_symlink(layer, m);
      case 4: return link(layer, m);
      case 5: return remove(layer, m);
      case 6:
      case 7: return rename(layer, m);
      case 8: return truncate(layer, m);
      case 9: return punch(layer, m);
      case 10: return xattr(layer, m);
      case 11: return chmod(layer, m);
      case 12: return collapse(layer, m);
      case 13: return insert(layer, m);
      case 14:
      case 15: return copy(layer, m);
      case 16: return rng_() % 2 != 0 ? make_tmpfile(layer, m) : forget(layer, m);
      default: return write(layer, m);
    }
  }

 private:
  std::string name() { return "n" + std::to_string(rng_() % 30); }
  Inode pick(Model const& m, std::uint32_t type) {
    std::vector<Inode> found;
    for (auto const& [inode, f] : m.files) {
      if ((f.mode & S_IFMT) == type && (type == S_IFREG || f.links != 0)) found.push_back(inode);
    }
    return found.empty() ? 0 : found[rng_() % found.size()];
  }
  void expect(Status const& got, int sys) {
    if (sys == 0) {
      REQUIRE_MESSAGE(got, (got ? "" : got.error().text()));
    } else {
      REQUIRE_FALSE(got);
      CHECK(got.error().to_errno() == sys);
    }
  }

  void make(Layer& layer, Model& m, std::uint32_t mode) {
    Inode const dir = pick(m, S_IFDIR);
    std::string const n = name();
    auto r = layer.create(dir, n, {mode, 1, 2, 5});
    if (m.files[dir].entries.contains(n)) {
      REQUIRE_FALSE(r);
      CHECK(r.error().to_errno() == EEXIST);
      return;
    }
    Attr const a = must(std::move(r));
    REQUIRE_FALSE(m.files.contains(a.inode));
    m.files[a.inode] = File{mode, {}, {}, {}, 1};
    m.files[dir].entries[n] = a.inode;
  }
  void make_tmpfile(Layer& layer, Model& m) {
    Attr const a = must(layer.tmpfile({S_IFREG | 0600, 1, 2, 0, {{"user.born", "unnamed"}}}));
    m.files[a.inode] = File{S_IFREG | 0600, {}, {}, {{"user.born", "unnamed"}}, 0};
    tmpfiles_.insert(a.inode);
  }
  void forget(Layer& layer, Model& m) {
    Inode const inode = pick(m, rng_() % 4 == 0 ? S_IFDIR : S_IFREG);
    if (inode == 0) return;
    must(layer.forget(inode));
    if (m.files[inode].links == 0) {
      m.files.erase(inode);
      CHECK(layer.getattr(inode).error().to_errno() == ENOENT);
    }
  }
  // A file whose data may be collapsed or copied in whole blocks grows to some.
  static std::uint64_t blocks(std::uint64_t v) { return v / kBlockSize * kBlockSize; }
  void collapse(Layer& layer, Model& m) {
    Inode const file = pick(m, S_IFREG);
    if (file == 0) return;
    std::string& data = m.files[file].data;
    std::uint64_t const at = blocks(rng_() % (data.size() + 1)),
                        n = blocks(rng_() % 40000) + kBlockSize;
    expect(layer.allocate(file, Allocate::kCollapse, at + 1, n), EINVAL);
    expect(layer.allocate(file, Allocate::kCollapse, at, n), at + n >= data.size() ? EINVAL : 0);
    if (at + n < data.size()) data.erase(at, n);
  }
  void insert(Layer& layer, Model& m) {
    Inode const file = pick(m, S_IFREG);
    if (file == 0) return;
    std::string& data = m.files[file].data;
    std::uint64_t const at = blocks(rng_() % (data.size() + 1)),
                        n = blocks(rng_() % 40000) + kBlockSize;
    if (data.size() > 1000000) return;
    expect(layer.allocate(file, Allocate::kInsert, at, n), at >= data.size() ? EINVAL : 0);
    if (at < data.size()) data.insert(at, n, '\0');
  }
  void copy(Layer& layer, Model& m) {
    bool const below = base_ != nullptr && rng_() % 3 == 0;
    Inode const from = below ? pick(*base_model_, S_IFREG) : pick(m, S_IFREG),
                to = pick(m, S_IFREG);
    if (from == 0 || to == 0) return;
    std::string const source = below ? base_model_->files.at(from).data : m.files[from].data;
    std::string& data = m.files[to].data;
    std::uint64_t at = rng_() % (source.size() + 1), into = rng_() % (data.size() + 5000);
    std::uint64_t n = rng_() % 3 == 0 ? ~0ull >> 2 : rng_() % 100000;
    if (rng_() % 3 != 0) {  // often it can be shared
      at = blocks(at);
      into = blocks(into) + at % kBlockSize;
    }
    std::uint64_t const want = std::min(n, source.size() - at);
    auto const r = below ? layer.copy_range(*base_, from, at, to, into, n)
                         : layer.copy_range(from, at, to, into, n);
    if (!below && from == to && at < into + want && into < at + want) {
      REQUIRE_FALSE(r);
      CHECK(r.error().to_errno() == EINVAL);
      return;
    }
    CHECK(must(r) == want);
    if (want == 0) return;
    if (data.size() < into + want) data.resize(into + want);
    data.replace(into, want, source, at, want);
  }
  void make_symlink(Layer& layer, Model& m) {
    Inode const dir = pick(m, S_IFDIR);
    std::string const n = name(), target(1 + rng_() % 4000, 't');
    if (m.files[dir].entries.contains(n)) return;
    Attr const a = must(layer.symlink(dir, n, target, {}));
    m.files[a.inode] = File{S_IFLNK | 0777, target, {}, {}, 1};
    m.files[dir].entries[n] = a.inode;
  }
  void link(Layer& layer, Model& m) {
    Inode const file = pick(m, S_IFREG), dir = pick(m, S_IFDIR);
    if (file == 0) return;
    std::string const n = name();
    bool const there = m.files[dir].entries.contains(n);
    auto r = layer.link(file, dir, n);
    if (m.files[file].links == 0 && !tmpfiles_.contains(file)) {
      REQUIRE_FALSE(r);
      CHECK(r.error().to_errno() == ENOENT);
      return;
    }
    REQUIRE(r.ok() == !there);
    if (there) return;
    m.files[dir].entries[n] = file;
    ++m.files[file].links;
  }
  void drop(Model& m, Inode inode) {
    if (--m.files[inode].links == 0) tmpfiles_.erase(inode);
  }
  void remove(Layer& layer, Model& m) {
    Inode const dir = pick(m, S_IFDIR);
    auto& entries = m.files[dir].entries;
    if (entries.empty()) return;
    auto it = entries.begin();
    std::advance(it, rng_() % entries.size());
    File const& f = m.files[it->second];
    if (S_ISDIR(f.mode)) {
      CHECK(layer.unlink(dir, it->first).error().to_errno() == EISDIR);
      expect(layer.rmdir(dir, it->first), f.entries.empty() ? 0 : ENOTEMPTY);
      if (!f.entries.empty()) return;
    } else {
      CHECK(layer.rmdir(dir, it->first).error().to_errno() == ENOTDIR);
      expect(layer.unlink(dir, it->first), 0);
    }
    Inode const gone = it->second;
    entries.erase(it);
    drop(m, gone);
  }
  bool inside(Model const& m, Inode at, Inode ancestor) {
    if (at == ancestor) return true;
    for (auto const& [n, inode] : m.files.at(ancestor).entries) {
      if (S_ISDIR(m.files.at(inode).mode) && inside(m, at, inode)) return true;
    }
    return false;
  }
  void rename(Layer& layer, Model& m) {
    Inode const from = pick(m, S_IFDIR), to = pick(m, S_IFDIR);
    std::string const a = name(), b = name();
    auto const how = static_cast<Rename>(rng_() % 3);
    auto const ia = m.files[from].entries.find(a);
    bool const has_a = ia != m.files[from].entries.end();
    Inode const moved = has_a ? ia->second : 0;
    auto const ib = m.files[to].entries.find(b);
    Inode const hit = ib != m.files[to].entries.end() ? ib->second : 0;
    int want = 0;
    bool const moves_dir = has_a && S_ISDIR(m.files[moved].mode);
    bool const hits_dir = hit != 0 && S_ISDIR(m.files[hit].mode);
    if (!has_a)
      want = ENOENT;
    else if (how == Rename::kNoReplace && hit != 0)
      want = EEXIST;
    else if (how == Rename::kExchange && hit == 0)
      want = ENOENT;
    else if (moves_dir && inside(m, to, moved))
      want = EINVAL;
    else if (moved == hit) {
      expect(layer.rename(from, a, to, b, how), 0);
      return;
    } else if (how == Rename::kExchange) {
      if (hits_dir && inside(m, from, hit)) want = EINVAL;
    } else if (hit != 0) {
      if (hits_dir && !moves_dir)
        want = EISDIR;
      else if (!hits_dir && moves_dir)
        want = ENOTDIR;
      else if (hits_dir && !m.files[hit].entries.empty())
        want = ENOTEMPTY;
    }
    expect(layer.rename(from, a, to, b, how), want);
    if (want != 0) return;
    m.files[from].entries.erase(a);
    m.files[to].entries[b] = moved;
    if (how == Rename::kExchange)
      m.files[from].entries[a] = hit;
    else if (hit != 0)
      drop(m, hit);
  }
  void write(Layer& layer, Model& m) {
    Inode const file = pick(m, S_IFREG);
    if (file == 0) return;
    std::string& data = m.files[file].data;
    std::uint64_t const at = rng_() % 4 == 0 ? rng_() % 300000 : rng_() % (data.size() + 1);
    std::size_t const n = rng_() % 3 == 0 ? rng_() % 40000 : rng_() % 3000;
    std::string part(n, rng_() % 4 == 0 ? '\0' : static_cast<char>('a' + rng_() % 26));
    if (rng_() % 2 != 0) {
      for (auto& c : part) c = static_cast<char>(rng_());
    }
    CHECK(must(layer.write(file, at, bytes(part))) == n);
    if (n == 0) return;
    if (data.size() < at + n) data.resize(at + n);
    data.replace(at, n, part);
  }
  void truncate(Layer& layer, Model& m) {
    Inode const file = pick(m, S_IFREG);
    if (file == 0) return;
    std::uint64_t const size = rng_() % 2 ? rng_() % 5000 : rng_() % 200000;
    SetAttr set;
    set.size = size;
    CHECK(must(layer.setattr(file, set)).info.size == size);
    m.files[file].data.resize(size);
  }
  void punch(Layer& layer, Model& m) {
    Inode const file = pick(m, S_IFREG);
    if (file == 0) return;
    std::string& data = m.files[file].data;
    std::uint64_t const at = rng_() % (data.size() + 1000), n = 1 + rng_() % 30000;
    Allocate const how = std::array{Allocate::kZeroRange, Allocate::kPunchHole,
                                    Allocate::kZeroRangeKeepSize}[rng_() % 3];
    must(layer.allocate(file, how, at, n));
    if (how == Allocate::kZeroRange && data.size() < at + n) data.resize(at + n);
    for (std::uint64_t i = at; i < at + n && i < data.size(); ++i) data[i] = '\0';
  }
  void xattr(Layer& layer, Model& m) {
    Inode const file = pick(m, S_IFREG);
    if (file == 0) return;
    std::string const n = "user.x" + std::to_string(rng_() % 6);
    if (rng_() % 3 == 0) {
      expect(layer.removexattr(file, n), m.files[file].xattrs.erase(n) != 0 ? 0 : ENODATA);
      return;
    }
    std::string const value(rng_() % 5 == 0 ? rng_() % (kMaxXattr + 1) : rng_() % 50,
                            static_cast<char>('A' + rng_() % 26));
    must(layer.setxattr(file, n, value, XattrMode::kAny));
    m.files[file].xattrs[n] = value;
  }
  void chmod(Layer& layer, Model& m) {
    Inode const file = pick(m, S_IFREG);
    if (file == 0) return;
    SetAttr set;
    set.permissions = static_cast<std::uint32_t>(rng_() % 010000);
    must(layer.setattr(file, set));
    m.files[file].mode = S_IFREG | *set.permissions;
  }
  std::mt19937_64 rng_;
  Layer* base_ = nullptr;
  Model const* base_model_ = nullptr;
  // That were kept all the time since they were made: they can be linked.
  std::set<Inode> tmpfiles_{};
};

}  // namespace

TEST_CASE(
    "file API: random operations on a chain of layers do what the model does, through reopening") {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    CAPTURE(seed);
    OpenOptions options;
    options.node_cache = 1u << 20;
    options.dirty_data = 4u << 20;
    options.dirty_data_file = 256u << 10;
    options.dirty_nodes = 512u << 10;
    TestStore store(256, options);
    Driver driver(seed);
    std::vector<Model> models(1);
    std::vector<LayerId> ids{must(store->create_layer("l0", 0))};
    models[0].root = must(store->layer(ids[0]))->root();
    models[0].files[models[0].root] = File{S_IFDIR | 0755, {}, {}, {}, 1};
    for (int depth = 0; depth < 4; ++depth) {
      for (int round = 0; round < 4; ++round) {
        {
          auto layer = must(store->layer(ids.back()));
          auto base = depth > 0 ? must(store->layer(ids[ids.size() - 2])) : nullptr;
          driver.set_base(base.get(), depth > 0 ? &models[models.size() - 2] : nullptr);
          must(layer->hold_unlinked(true));
          for (int i = 0; i < 200; ++i) driver.step(*layer, models.back());
          check_same(*layer, models.back());
          if (round == 1) store.check();
          check_same(*layer, models.back());
          driver.forget_all(*layer, models.back());
        }
        if (round == 2) store.reopen();
      }
      ids.push_back(must(store->create_layer("l" + std::to_string(depth + 1), ids.back())));
      models.push_back(models.back());
    }
    store.check();
    for (std::size_t i = 0; i < ids.size(); ++i) {
      CAPTURE(i);
      check_same(*must(store->layer(ids[i])), models[i]);
    }
    while (!ids.empty()) {  // leaves first
      must(store->remove_layer(ids.back()));
      ids.pop_back();
    }
    must(store->checkpoint());
    store.reopen();
    auto const s = store->space();
    CHECK(s.layers == 0);
  }
}

TEST_CASE(
    "file API: what was checkpointed survives a crash, what was not is gone, and nothing is "
    "damaged") {
  TestStore store;
  LayerId const id = must(store->create_layer("a", 0));
  {
    auto layer = must(store->layer(id));
    Attr const f = must(layer->create(layer->root(), "kept", {S_IFREG | 0644}));
    CHECK(must(layer->write(f.inode, 0, bytes(std::string(10000, 'k')))) == 10000);
    must(layer->fsync(f.inode));
    Attr const g = must(layer->create(layer->root(), "lost", {S_IFREG | 0644}));
    CHECK(must(layer->write(g.inode, 0, bytes("x"))) == 1);
  }
  store.crash();
  auto layer = must(store->layer(id));
  CHECK(read_all(*layer, must(layer->lookup(layer->root(), "kept")).inode, 10000) ==
        std::string(10000, 'k'));
  CHECK(layer->lookup(layer->root(), "lost").error().to_errno() == ENOENT);
}

TEST_CASE("file API: a frozen layer answers every change with EROFS") {
  TestStore store;
  LayerId const id = must(store->create_layer("a", 0));
  auto layer = must(store->layer(id));
  Inode const f = must(layer->create(layer->root(), "f", {S_IFREG | 0644})).inode;
  must(store->freeze_layer(id));
  SetAttr set;
  set.permissions = 0;
  CHECK(layer->create(layer->root(), "g", {S_IFREG}).error().to_errno() == EROFS);
  CHECK(layer->write(f, 0, bytes("x")).error().to_errno() == EROFS);
  CHECK(layer->setattr(f, set).error().to_errno() == EROFS);
  CHECK(layer->unlink(layer->root(), "f").error().to_errno() == EROFS);
  CHECK(
      layer->rename(layer->root(), "f", layer->root(), "h", Rename::kReplace).error().to_errno() ==
      EROFS);
  CHECK(layer->setxattr(f, "user.a", "b", XattrMode::kAny).error().to_errno() == EROFS);
  CHECK(layer->link(f, layer->root(), "l").error().to_errno() == EROFS);
}

TEST_CASE(
    "file API: an open file without a name stays until its last release, and a crash does not keep "
    "it") {
  TestStore store;
  LayerId const id = must(store->create_layer("a", 0));
  Inode inode = 0;
  {
    auto layer = must(store->layer(id));
    inode = must(layer->create(layer->root(), "f", {S_IFREG | 0644})).inode;
    must(layer->open(inode));
    CHECK(must(layer->write(inode, 0, bytes("still here"))) == 10);
    must(layer->unlink(layer->root(), "f"));
    CHECK(read_all(*layer, inode, 10) == "still here");
    store.check();
    Inode const other = must(layer->tmpfile({S_IFREG | 0600})).inode;
    must(layer->link(other, layer->root(), "named"));
    must(layer->release(other));
    CHECK(must(layer->lookup(layer->root(), "named")).inode == other);
  }
  must(store->checkpoint());
  store.crash();
  auto layer = must(store->layer(id));
  CHECK(layer->getattr(inode).error().to_errno() == ENOENT);
}

TEST_CASE(
    "file API: a full store says ENOSPC at write and create; removal still works and gives the "
    "room back") {
  TestStore store(16);
  LayerId const id = must(store->create_layer("a", 0));
  auto layer = must(store->layer(id));
  std::string const block(64 << 10, 'x');
  int files = 0;
  for (;; ++files) {
    auto f = layer->create(layer->root(), "f" + std::to_string(files), {S_IFREG | 0644});
    if (!f) {
      CHECK(f.error().to_errno() == ENOSPC);
      break;
    }
    auto w = layer->write(f->inode, 0, bytes(block));
    if (!w) {
      CHECK(w.error().to_errno() == ENOSPC);
      break;
    }
    REQUIRE(files < 300);
  }
  CHECK(files > 100);  // 16 MiB hold at least 6.5 MiB of data
  store.check();
  for (int i = 0; i < files; ++i) {
    CAPTURE(i);
    must(layer->unlink(layer->root(), "f" + std::to_string(i)));
  }
  store.check();
  store.check();
  Inode const f = must(layer->create(layer->root(), "again", {S_IFREG | 0644})).inode;
  for (int i = 0; i < files - 20; ++i) {
    CAPTURE(i);
    CHECK(must(layer->write(f, static_cast<std::uint64_t>(i) * block.size(), bytes(block))) ==
          block.size());
  }
}

TEST_CASE(
    "file API: a directory of 100,000 entries is ordinary, and readdir tells each once while "
    "others come and go") {
  TestStore store(256);
  LayerId const id = must(store->create_layer("a", 0));
  auto layer = must(store->layer(id));
  for (int i = 0; i < 100000; ++i)
    must(layer->create(layer->root(), "e" + std::to_string(i), {S_IFREG | 0644}));
  std::map<std::string, int> seen;
  int n = 0;
  must(layer->readdir(layer->root(), 0, [&](DirEntry const& e) {
    ++seen[e.name];
    if (++n % 1000 == 0) {
      must(layer->create(layer->root(), "new" + std::to_string(n), {S_IFREG | 0644}));
      must(layer->unlink(layer->root(), e.name));
    }
    return true;
  }));
  for (int i = 0; i < 100000; ++i) {
    auto const it = seen.find("e" + std::to_string(i));
    REQUIRE(it != seen.end());
    CHECK(it->second == 1);
  }
}

TEST_CASE(
    "file API: SEEK_DATA and SEEK_HOLE see holes, in memory and placed; zero blocks take no "
    "space") {
  TestStore store;
  LayerId const id = must(store->create_layer("a", 0));
  auto layer = must(store->layer(id));
  Inode const f = must(layer->create(layer->root(), "f", {S_IFREG | 0644})).inode;
  CHECK(must(layer->write(f, 1 << 20, bytes(std::string(8192, 'd')))) == 8192);
  CHECK(must(layer->write(f, 3 << 20, bytes(std::string(65536, '\0')))) == 65536);
  for (int pass = 0; pass < 2; ++pass) {
    CAPTURE(pass);
    CHECK(must(layer->seek(f, 0, Whence::kData)) == 1 << 20);
    CHECK(must(layer->seek(f, 0, Whence::kHole)) == 0);
    CHECK(must(layer->seek(f, 1 << 20, Whence::kHole)) == (1 << 20) + 8192);
    CHECK(layer->seek(f, 8 << 20, Whence::kData).error().to_errno() == ENXIO);
    store.check();
  }
  CHECK(must(layer->getattr(f)).info.blocks == 2);
  CHECK(layer->seek(f, 2 << 20, Whence::kData).error().to_errno() == ENXIO);
}

TEST_CASE(
    "file API: a sequential file is one run on the device; branch-on-write copies 4 KiB; chmod "
    "copies nothing") {
  TestStore store(128);
  LayerId const id = must(store->create_layer("a", 0));
  Inode f = 0;
  {
    auto layer = must(store->layer(id));
    f = must(layer->create(layer->root(), "f", {S_IFREG | 0644})).inode;
    std::string chunk(1 << 20, 'x');
    for (int i = 0; i < 8; ++i)
      CHECK(must(layer->write(f, static_cast<std::uint64_t>(i) << 20, bytes(chunk))) ==
            chunk.size());
    must(store->checkpoint());
    CHECK(must(layer->runs(f)).size() == 1);
  }
  LayerId const child = must(store->create_layer("b", id));
  auto layer = must(store->layer(child));
  SetAttr set;
  set.permissions = 0600;
  must(layer->setattr(f, set));
  store.check();
  CHECK(must(store->layer_info(child)).own_blocks <= 3 * kNodeBlocks);
  CHECK(must(layer->write(f, 5000, bytes("y"))) == 1);
  store.check();
  std::uint64_t own = 0;
  for (auto const& run : must(layer->runs(f))) {
    if (run.owner == child) own += run.length;
  }
  CHECK(own == kBlockSize);
  CHECK(read_all(*must(store->layer(id)), f, 8 << 20) == std::string(8 << 20, 'x'));
}

TEST_CASE("file API: threads in different layers, and checkpoints, work at the same time") {
  TestStore store(256);
  LayerId const base = must(store->create_layer("base", 0));
  std::vector<std::shared_ptr<Layer>> layers;
  for (int i = 0; i < 3; ++i)
    layers.push_back(must(store->layer(must(store->create_layer("t" + std::to_string(i), base)))));
  std::vector<std::thread> threads;
  std::atomic<int> failures{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      auto& layer = *layers[static_cast<std::size_t>(t % 3)];  // two threads share a layer
      for (int i = 0; i < 300; ++i) {
        std::string const name = "f" + std::to_string(t) + "." + std::to_string(i);
        auto f = layer.create(layer.root(), name, {S_IFREG | 0644});
        if (!f || !layer.write(f->inode, 0,
                               bytes(std::string(static_cast<std::size_t>(i * 37 % 20000), 'z'))))
          ++failures;
        if (i % 3 == 0 && !layer.unlink(layer.root(), name)) ++failures;
        if (i % 50 == 0 && !store->checkpoint()) ++failures;
      }
    });
  }
  for (auto& t : threads) t.join();
  CHECK(failures == 0);
  store.check();
  for (std::size_t t = 0; t < 4; ++t) {
    auto& layer = *layers[t % 3];
    auto const a = must(layer.lookup(layer.root(), "f" + std::to_string(t) + ".298"));
    CHECK(a.info.size == 298 * 37 % 20000);
  }
}
