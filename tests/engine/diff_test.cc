// SPDX-License-Identifier: Apache-2.0
// What differs between two layers, against a naive walk of both whole trees; what it costs; and
// what damage it meets.
#include "engine/diff.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <random>
#include <set>

#include "engine/squash.h"
#include "format/layout.h"
#include "tests/support/naive_diff.h"
#include "tests/support/support.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"
#include "verify/tree_digest.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

// Trees to compare --------------------------------------------------------------------------------

std::string noise(std::mt19937_64& rng, std::size_t size) {
  std::string s(size, '\0');
  for (std::size_t at = 0; at < size; at += 8) {
    auto const n = rng();
    std::memcpy(s.data() + at, &n, std::min<std::size_t>(8, size - at));
  }
  return s;
}

std::size_t some_size(std::mt19937_64& rng) {
  std::size_t const sizes[] = {0, 1, 200, 2048, 2049, 4096, 5000, 20000, 40960, 1200000};
  auto const n = sizes[rng() % std::size(sizes)];
  return n > 1000000 && rng() % 8 != 0 ? 3000 : n;
}

void write(Layer& layer, Inode inode, std::uint64_t offset, std::string const& data) {
  REQUIRE(must(layer.write(inode, offset, bytes_of(data))) == data.size());
}

Inode make_file(Layer& layer, Inode directory, std::string const& name, std::string const& data) {
  auto const inode = must(layer.create(directory, name, {S_IFREG | 0644})).inode;
  write(layer, inode, 0, data);
  return inode;
}

Inode make_dir(Layer& layer, Inode directory, std::string const& name) {
  return must(layer.create(directory, name, {S_IFDIR | 0755})).inode;
}

Inode at(Layer& layer, std::string const& path) { return list(layer).paths.at(path); }

// One change; whatever POSIX forbids is not done.
void change(Layer& layer, std::mt19937_64& rng) {
  auto const all = list(layer);
  auto const some = [&](bool directory) {
    std::vector<Link> found;
    for (auto const& e : all.entries) {
      if (S_ISDIR(all.files.at(e.second).info.mode) == directory) found.push_back(e.first);
    }
    return found.empty() ? Link{} : found[rng() % found.size()];
  };
  auto const directory = [&] {
    auto const link = some(true);
    return link.first == 0 || rng() % 3 == 0 ? all.root : all.child(link.first, link.second);
  };
  // Few names, so that they come again.
  auto const name = [&] { return std::string(1, static_cast<char>('a' + rng() % 12)); };
  Link const file = some(false), dir = some(true);
  Inode const inode = file.first == 0 ? 0 : all.child(file.first, file.second);
  Inode const any = rng() % 3 == 0 || inode == 0 ? directory() : inode;
  bool const regular = inode != 0 && S_ISREG(all.files.at(inode).info.mode);
  auto const ok = [](auto result) { (void)result.ok(); };
  switch (rng() % 18) {
    case 0:
    case 1:
    case 2: {
      auto const made = layer.create(directory(), name(), {S_IFREG | 0644});
      if (made) write(layer, made->inode, 0, noise(rng, some_size(rng)));
      break;
    }
    case 3: ok(layer.create(directory(), name(), {S_IFDIR | 0755})); break;
    case 4: ok(layer.symlink(directory(), name(), "to-" + name(), {S_IFLNK | 0777})); break;
    case 5:
      ok(layer.create(directory(), name(), {S_IFCHR | 0600, 0, 0, rng() % 3 << 32 | 1}));
      break;
    case 6:
      if (inode != 0) ok(layer.link(inode, directory(), name()));
      break;
    case 7:
      if (inode != 0) ok(layer.unlink(file.first, file.second));
      break;
    case 8:
      if (dir.first != 0) ok(layer.rmdir(dir.first, dir.second));
      break;
    case 9:
      if (inode != 0)
        ok(layer.rename(file.first, file.second, directory(), name(), Rename::kReplace));
      break;
    case 10:
      if (dir.first != 0)
        ok(layer.rename(dir.first, dir.second, directory(), name(), Rename::kReplace));
      break;
    case 11:
      if (dir.first != 0 && inode != 0)
        ok(layer.rename(dir.first, dir.second, file.first, file.second, Rename::kExchange));
      break;
    case 12:  // not of a symlink, which Linux does not allow
      if (!S_ISLNK(all.files.at(any).info.mode))
        ok(layer.setattr(any, {.permissions = 0600 + rng() % 8}));
      break;
    case 13: ok(layer.setattr(any, {.uid = static_cast<std::uint32_t>(rng() % 3)})); break;
    case 14:
      ok(layer.setattr(any, {.mtime = Timestamp{static_cast<std::int64_t>(rng() % 3), 5}}));
      break;
    case 15:
      if (rng() % 3 == 0) {
        ok(layer.removexattr(any, "user.a"));
      } else {
        ok(layer.setxattr(any, rng() % 2 ? "user.a" : "user.b",
                          noise(rng, rng() % 3 == 0 ? 9000 : 3), XattrMode::kAny));
      }
      break;
    case 16:
      if (!regular) break;
      switch (rng() % 4) {
        case 0: ok(layer.setattr(inode, {.size = some_size(rng)})); break;
        case 1: ok(layer.allocate(inode, Allocate::kPunchHole, rng() % 5000, 5000)); break;
        case 2: write(layer, inode, rng() % 30000, noise(rng, rng() % 6000)); break;
        default: write(layer, inode, (rng() % 3) << 20, "far"); break;
      }
      break;
    default:  // the same bytes again, in other blocks
      if (regular) write(layer, inode, 0, all.files.at(inode).content);
      break;
  }
}

void age(Store& store, LayerId id, std::mt19937_64& rng, int changes) {
  auto const layer = must(store.layer(id));
  for (int i = 0; i < changes; ++i) change(*layer, rng);
}

// The same tree once more, in other inodes and other writes.
void copy_tree(Layer& from, Layer& to) {
  auto const all = list(from);
  std::map<Inode, Inode> made{{all.root, to.root()}};
  for (auto const& [path, i] : all.paths) {
    if (i == all.root) continue;
    auto const& f = all.files.at(i);
    auto const slash = path.rfind('/');
    Inode const dir = made.at(all.paths.at(slash == 0 ? "/" : path.substr(0, slash)));
    auto const name = path.substr(slash + 1);
    if (made.contains(i)) {
      must(to.link(made.at(i), dir, name));
      continue;
    }
    NewNode const node{f.info.mode, f.info.uid, f.info.gid, f.info.rdev, {}};
    made[i] = S_ISLNK(f.info.mode) ? must(to.symlink(dir, name, f.content, node)).inode
                                   : must(to.create(dir, name, node)).inode;
    if (S_ISREG(f.info.mode)) {
      for (std::size_t p = 0; p < f.content.size(); p += 70000)
        write(to, made[i], p, f.content.substr(p, 70000));
    }
  }
  for (auto const& [i, j] : made) {
    auto const& f = all.files.at(i);
    for (auto const& [name, value] : f.xattrs) must(to.setxattr(j, name, value, XattrMode::kAny));
    must(to.setattr(j, {.permissions = f.info.mode & 07777,
                        .uid = f.info.uid,
                        .gid = f.info.gid,
                        .mtime = f.info.mtime}));
  }
}

Lines diff(Store& store, LayerId a, LayerId b, DiffOptions const& options = {}) {
  return lines_of(must(must(LayerDiff::open(store, a, b))->run(options)));
}

Lines naive(Store& store, LayerId a, LayerId b) {
  auto const la = must(store.layer(a)), lb = must(store.layer(b));
  auto const in_a = list(*la), in_b = list(*lb);
  return naive_diff(in_a, in_b);
}

std::string text_of(Lines const& lines) {
  std::string out = "\n";
  for (auto const& line : lines) out += line + "\n";
  return out;
}

Lines sorted(Lines lines) {
  std::sort(lines.begin(), lines.end());
  return lines;
}

// Two clones of a small tree, `a` as it was made and `b` to be changed.
struct Pair {
  TestStore s{};
  LayerId base = 0, a = 0, b = 0;
  std::shared_ptr<Layer> first, second;
  Pair() {
    base = must(s->create_layer("base", 0));
    {
      auto const l = must(s->layer(base));
      Inode const etc = make_dir(*l, l->root(), "etc");
      make_file(*l, etc, "passwd", "root\n");
      make_file(*l, etc, "big", std::string(20000, 'x'));
      Inode const d = make_dir(*l, etc, "d");
      Inode const f = make_file(*l, d, "f", "f");
      must(l->link(f, d, "f2"));
      must(l->symlink(d, "s", "f", {S_IFLNK | 0777}));
      for (Inode const i : {l->root(), etc, d}) must(l->setattr(i, {.mtime = Timestamp{1, 0}}));
    }
    a = must(s->create_layer("a", base));
    b = must(s->create_layer("b", base));
    first = must(s->layer(a));
    second = must(s->layer(b));
  }
  [[nodiscard]] Inode in(std::string const& path) const { return at(*second, path); }
  // Without times: each change of a directory would tell of its own.
  Lines lines() { return diff(*s, a, b, {.exclude_times = true, .below = {}}); }
};

}  // namespace

TEST_CASE("diff: agrees with a naive walk of both trees, whatever was done to which") {
  int const rounds = 60;
  for (int seed = 0; seed < rounds; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 rng(static_cast<std::uint64_t>(seed));
    TestStore s(96);
    std::vector<LayerId> layers;
    layers.push_back(must(s->create_layer("base", 0)));
    age(*s, layers[0], rng, 60);
    for (int i = 1; i < 5; ++i) {
      layers.push_back(
          must(s->create_layer("l" + std::to_string(i), layers[rng() % layers.size()])));
      age(*s, layers.back(), rng, static_cast<int>(rng() % 25));
    }
    // The same as another, of another origin; and changed.
    layers.push_back(must(s->create_layer("stranger", 0)));
    {
      LayerId const model = layers[rng() % (layers.size() - 1)];
      copy_tree(*must(s->layer(model)), *must(s->layer(layers.back())));
      CHECK(diff(*s, model, layers.back()) == Lines{});
    }
    age(*s, layers.back(), rng, static_cast<int>(rng() % 20));
    if (seed % 3 == 0) s.reopen();
    for (LayerId const a : layers) {
      for (LayerId const b : layers) {
        CAPTURE(a);
        CAPTURE(b);
        auto const told = diff(*s, a, b);
        auto const wanted = naive(*s, a, b);
        CAPTURE(text_of(told));
        CAPTURE(text_of(wanted));
        REQUIRE(sorted(told) == wanted);
        CHECK(told.empty() == (naive(*s, b, a).empty()));
      }
    }
    // A layer on any other, or on nothing, with the tree of any: the same tree, sockets and odd
    // names included, and no difference to be told, also where directories changed places below so
    // that another inode stands at a path.
    std::atomic<bool> const stop{false};
    for (int i = 0; i < 4; ++i) {
      LayerId const onto = i == 3 ? 0 : layers[rng() % layers.size()],
                    what = layers[rng() % layers.size()];
      CAPTURE(onto);
      CAPTURE(what);
      LayerId const flat = must(squash_layer(*s, onto, what, "flat" + std::to_string(i), stop));
      CHECK(must(compute_tree_digest(*s, what, {})) == must(compute_tree_digest(*s, flat, {})));
      CHECK(must(s->layer_info(flat)).parent == onto);
      for (LayerId const b : {what, layers[rng() % layers.size()]}) {
        auto const told = diff(*s, flat, b);
        CAPTURE(text_of(told));
        CHECK(sorted(told) == naive(*s, flat, b));
        if (b == what) CHECK(told == Lines{});
      }
    }
  }
}

TEST_CASE("diff: what one can do to a file is told, and no more") {
  Pair p;
  auto& l = *p.second;
  Inode const etc = p.in("/etc"), d = p.in("/etc/d"), passwd = p.in("/etc/passwd"),
              big = p.in("/etc/big");
  CHECK(diff(*p.s, p.a, p.b) == Lines{});

  SUBCASE("a directory moved is one line; what changed in it has its own") {
    must(l.rename(etc, "d", l.root(), "moved", Rename::kReplace));
    make_file(l, d, "new", "");
    CHECK(p.lines() == Lines{"R /etc/d -> /moved", "A /moved/new"});
  }
  SUBCASE("directories swapped") {
    Inode const other = make_dir(l, l.root(), "other");
    make_file(l, other, "x", "");
    must(l.rename(l.root(), "other", etc, "d", Rename::kExchange));
    CHECK(p.lines() == Lines{"A /etc/d", "A /etc/d/x", "R /etc/d -> /other"});
  }
  SUBCASE("a file replaced by a directory") {
    must(l.unlink(etc, "passwd"));
    make_file(l, make_dir(l, etc, "passwd"), "x", "");
    CHECK(p.lines() == Lines{"C /etc/passwd type mode", "A /etc/passwd/x"});
  }
  SUBCASE("a directory and what is in it removed") {
    for (char const* n : {"f", "f2", "s"}) must(l.unlink(d, n));
    must(l.rmdir(etc, "d"));
    CHECK(p.lines() == Lines{"D /etc/d", "D /etc/d/f", "D /etc/d/f2", "D /etc/d/s"});
  }
  SUBCASE("a file written anew under its name") {
    make_file(l, etc, "tmp", "root\nme\n");
    must(l.rename(etc, "tmp", etc, "passwd", Rename::kReplace));
    CHECK(p.lines() == Lines{"C /etc/passwd content 0+8"});
  }
  SUBCASE("a file moved over another") {
    must(l.rename(etc, "big", etc, "passwd", Rename::kReplace));
    CHECK(p.lines() == Lines{"D /etc/passwd", "R /etc/big -> /etc/passwd"});
  }
  SUBCASE("another name; one name less; a name moved") {
    must(l.link(passwd, etc, "again"));
    must(l.unlink(d, "f2"));
    CHECK(p.lines() == Lines{"A /etc/again = /etc/passwd", "C /etc/d/f links", "D /etc/d/f2",
                             "C /etc/passwd links"});
    must(l.link(p.in("/etc/d/f"), d, "f3"));
    CHECK(p.lines() ==
          Lines{"A /etc/again = /etc/passwd", "R /etc/d/f2 -> /etc/d/f3", "C /etc/passwd links"});
  }
  SUBCASE("a new file of two names") {
    must(l.link(make_file(l, etc, "x", "1"), etc, "y"));
    CHECK(p.lines() == Lines{"A /etc/x", "A /etc/y = /etc/x"});
  }
  SUBCASE("the same size, other bytes; the same bytes, other blocks") {
    write(l, big, 5000, "y");
    CHECK(p.lines() == Lines{"C /etc/big content 4096+4096"});
    must(l.fsync(big));
    write(l, big, 5000, "x");
    CHECK(p.lines() == Lines{});
  }
  SUBCASE("attributes alone") {
    must(l.setattr(passwd, {.permissions = 0600}));
    CHECK(p.lines() == Lines{"C /etc/passwd mode"});
    must(l.setattr(passwd, {.permissions = 0644, .uid = 7}));
    CHECK(p.lines() == Lines{"C /etc/passwd owner"});
    must(l.setattr(passwd, {.uid = 0, .mtime = Timestamp{3, 4}}));
    CHECK(p.lines() == Lines{});
    CHECK(diff(*p.s, p.a, p.b) == Lines{"C /etc/passwd times"});
    must(l.setxattr(passwd, "user.x", "", XattrMode::kAny));
    CHECK(p.lines() == Lines{"C /etc/passwd xattrs user.x"});
  }
  SUBCASE("small to large and back; holes") {
    write(l, passwd, 100000, "x");
    CHECK(p.lines() == Lines{"C /etc/passwd content 0+100001"});
    must(l.setattr(passwd, {.size = 5}));
    CHECK(p.lines() == Lines{});
    must(l.setattr(big, {.size = 1ull << 40}));
    CHECK(p.lines() == Lines{"C /etc/big content 16384+" + std::to_string((1ull << 40) - 16384)});
  }
  SUBCASE("only at or below some paths") {
    make_file(l, d, "new", "");
    must(l.rename(etc, "big", l.root(), "big", Rename::kReplace));
    CHECK(diff(*p.s, p.a, p.b, {.exclude_times = true, .below = {"/etc/d"}}) ==
          Lines{"A /etc/d/new"});
    CHECK(diff(*p.s, p.a, p.b, {.exclude_times = true, .below = {"/etc/big"}}) ==
          Lines{"R /etc/big -> /big"});
    CHECK(diff(*p.s, p.a, p.b, {.exclude_times = true, .below = {"/et"}}) == Lines{});
  }
}

TEST_CASE(
    "diff: what changed places and is equal where it stands is no difference; what is equal in one "
    "place only has moved") {
  Pair p;
  auto& l = *p.second;
  Inode const root = l.root();
  // Two directories with the same names in them, exchanged, and then what is in them: other inodes,
  // the same paths.
  auto const twins = [&](Layer& layer) {
    for (std::string const name : {"x", "y"}) {
      Inode const d = make_dir(layer, layer.root(), name);
      make_file(layer, d, "f", name + std::string(9000, 'f'));
      must(layer.setattr(at(layer, "/" + name + "/f"), {.mtime = Timestamp{2, 0}}));
      must(layer.setattr(d, {.mtime = Timestamp{2, 0}}));
    }
  };
  twins(l);
  must(l.setattr(root, {.mtime = Timestamp{1, 0}}));
  LayerId const c = must(p.s->create_layer("c", p.b));
  p.second.reset();
  auto const change = must(p.s->layer(c));
  must(change->rename(root, "x", root, "y", Rename::kExchange));
  CHECK(diff(*p.s, p.b, c, {.exclude_times = true, .below = {}}) ==
        Lines{"R /y -> /x", "R /x -> /y"});
  must(change->rename(at(*change, "/x"), "f", at(*change, "/y"), "f", Rename::kExchange));
  for (char const* path : {"/x", "/y"})
    must(change->setattr(at(*change, path), {.mtime = Timestamp{2, 0}}));
  must(change->setattr(root, {.mtime = Timestamp{1, 0}}));
  CHECK(diff(*p.s, p.b, c) == Lines{});
  CHECK(diff(*p.s, c, p.b) == Lines{});
  // One of the four is another now: the inodes in it can't be told as equal in one place and moved
  // in the other.
  must(change->setattr(at(*change, "/x/f"), {.permissions = 0600}));
  auto const told = diff(*p.s, p.b, c, {.exclude_times = true, .below = {}});
  CHECK(sorted(told) == naive_diff(list(*must(p.s->layer(p.b))), list(*change)));
  CHECK(std::count_if(told.begin(), told.end(), [](std::string const& t) {
          return t.find(" mode") != std::string::npos;
        }) == 1);
}

TEST_CASE("diff: nothing is frozen by it, and what is open counts") {
  Pair p;
  make_file(*p.second, p.second->root(), "open", std::string(10000, 'x'));
  CHECK(p.lines() == Lines{"A /open"});
  CHECK_FALSE(p.second->frozen());
  must(p.s->commit_layer(p.b, "b1"));
  make_file(*p.second, p.second->root(), "later", "");
  CHECK(diff(*p.s, must(p.s->resolve_layer("b1")), must(p.s->resolve_layer("b")),
             {.exclude_times = true, .below = {}}) == Lines{"A /later"});
}

TEST_CASE("diff: 10 changes in 100,000 files cost some dozens of nodes") {
  TestStore s(512);
  LayerId const base = must(s->create_layer("base", 0));
  std::vector<Inode> files;
  {
    auto const l = must(s->layer(base));
    for (int d = 0; d < 1000; ++d) {
      Inode const dir = make_dir(*l, l->root(), "d" + std::to_string(d));
      for (int f = 0; f < 100; ++f)
        files.push_back(must(l->create(dir, "f" + std::to_string(f), {S_IFREG | 0644})).inode);
    }
  }
  LayerId const a = must(s->create_layer("a", base)), b = must(s->create_layer("b", a));
  auto const l = must(s->layer(b));
  for (std::size_t i = 0; i < 10; ++i) write(*l, files[i * 9973], 0, "changed");
  must(s->checkpoint());
  auto const d = must(LayerDiff::open(*s, a, b));
  auto const entries = must(d->run({}));
  CHECK(entries.size() == 10);
  CHECK(d->nodes_walked() < 100);
  CHECK(d->records_changed() < 40);
  auto const other_way = must(LayerDiff::open(*s, b, base));
  CHECK(must(other_way->run({})).size() == 10);
  CHECK(other_way->nodes_walked() < 100);
  auto const same = must(LayerDiff::open(*s, a, base));
  CHECK(must(same->run({})).empty());
  CHECK(same->nodes_walked() == 0);
}

TEST_CASE("diff: a node that can't be read is named, and nothing is told") {
  TestStore s;
  LayerId a = 0, b = 0;
  {
    a = must(s->create_layer("whole", 0));
    b = must(s->create_layer("broken", a));
    auto const l = must(s->layer(b));
    make_file(*l, l->root(), "x", "x");
  }
  must(s->checkpoint());
  std::uint64_t const block = must(s->layer_info(b)).root.block.get();
  std::byte byte{};
  auto const flip = [&] {
    AlignedBuffer buffer(kBlockSize);
    must(s.device()->read(block * kBlockSize, buffer.span()));
    byte = buffer.data()[100] ^= std::byte{1};
    iovec const part{buffer.data(), kBlockSize};
    must(s.device()->write(block * kBlockSize, {&part, 1}));
  };
  s.reopen();
  flip();
  s->drop_caches();
  auto const told = must(LayerDiff::open(*s, a, b))->run({});
  REQUIRE_FALSE(told);
  CHECK(told.error().code == Errc::kCorrupt);
  CHECK(told.error().message.find("layer 'broken': cannot read the node at block " +
                                  std::to_string(block)) != std::string::npos);
  flip();
  CHECK(must(must(LayerDiff::open(*s, a, b))->run({})).size() == 2);
}
