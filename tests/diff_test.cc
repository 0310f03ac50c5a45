// SPDX-License-Identifier: Apache-2.0
// What differs between two layers, against a naive walk of both whole trees; what it costs; and what damage it meets.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <random>
#include <set>

#include "engine/diff.h"
#include "engine/squash.h"
#include "format/layout.h"
#include "tests/support/test_store.h"
#include "verify/tree_digest.h"

using namespace lcfs;
using lcfs::test::must;
using lcfs::test::TestStore;

namespace {

std::span<std::byte const> bytes_of(std::string const& s) { return std::as_bytes(std::span{s.data(), s.size()}); }

// ---------------------------------------------------------------------------------------------------------------
// The naive way

using Link = std::pair<Inode, std::string>;  // directory, name

struct File {
  InodeInfo info{};
  std::map<std::string, std::string> xattrs{};
  std::string content{};  // or target
  std::set<Link> links{};
  std::set<std::string> paths{};
};

struct Listing {
  Inode root = 0;
  std::map<Inode, File> files{};
  std::map<Link, Inode> entries{};
  std::map<std::string, Inode> paths{};
  [[nodiscard]] Inode child(Inode directory, std::string const& name) const {
    auto const it = entries.find({directory, name});
    return it == entries.end() ? 0 : it->second;
  }
};

Listing list(Layer& layer) {
  Listing out;
  out.root = layer.root();
  std::vector<std::pair<Inode, std::string>> todo{{out.root, ""}};
  auto look = [&](Inode inode, std::string const& path) {
    auto& f = out.files[inode];
    f.paths.insert(path.empty() ? "/" : path);
    out.paths[path.empty() ? "/" : path] = inode;
    f.info = must(layer.getattr(inode)).info;
    for (auto const& name : must(layer.listxattr(inode))) f.xattrs[name] = must(layer.getxattr(inode, name));
    if (S_ISLNK(f.info.mode)) f.content = must(layer.readlink(inode));
    if (S_ISREG(f.info.mode)) {
      f.content.resize(f.info.size);
      must(layer.read(inode, 0, std::as_writable_bytes(std::span{f.content.data(), f.content.size()})));
    }
  };
  look(out.root, "");
  while (!todo.empty()) {
    auto const [dir, path] = todo.back();
    todo.pop_back();
    std::vector<DirEntry> entries;
    must(layer.readdir(dir, 0, [&entries](DirEntry const& e) {
      entries.push_back(e);
      return true;
    }));
    for (auto const& e : entries) {
      auto const here = path + "/" + e.name;
      out.entries[{dir, e.name}] = e.inode;
      look(e.inode, here);
      out.files[e.inode].links.insert({dir, e.name});
      if (S_ISDIR(out.files[e.inode].info.mode)) todo.emplace_back(e.inode, here);
    }
  }
  return out;
}

std::string words(std::uint32_t changes, std::vector<ByteRange> const& content, std::vector<std::string> const& xattrs) {
  char const* const names[] = {"type", "content", "mode", "owner", "times", "xattrs", "rdev", "target", "links"};
  std::string out;
  for (unsigned i = 0; i < std::size(names); ++i) {
    if ((changes >> i & 1) != 0) out += std::string(" ") + names[i];
  }
  for (auto const& r : content) out += " " + std::to_string(r.offset) + "+" + std::to_string(r.length);
  for (auto const& x : xattrs) out += " " + x;
  return out;
}

using Lines = std::vector<std::string>;

Lines lines_of(std::vector<DiffEntry> const& entries) {
  Lines out;
  for (auto const& e : entries) {
    std::string const tail = words(e.changes, e.content, e.xattrs);
    switch (e.kind) {
      case DiffKind::kAdded: out.push_back("A " + e.path + (e.link_to.empty() ? "" : " = " + e.link_to)); break;
      case DiffKind::kDeleted: out.push_back("D " + e.path); break;
      case DiffKind::kModified: out.push_back("C " + e.path + tail); break;
      case DiffKind::kRenamed: out.push_back("R " + e.from + " -> " + e.path + tail); break;
    }
  }
  return out;
}

class Naive {
 public:
  Naive(Listing const& a, Listing const& b) : a_(a), b_(b), related_(a.root == b.root) {}

  Lines run() {
    pair_directories();
    if (!related_) changed("/", a_.root, b_.root);
    for (auto const& [link, i] : a_.entries) {
      Inode const j = partner(link);
      if (j == i) continue;
      if (j != 0 && !shared(i) && !shared(j)) {
        for (auto const& path : b_.files.at(pairs_.at(link.first)).paths) changed(join(path, link.second), i, j);
      } else if (shared(i)) {
        removed_[i].insert(join(*a_.files.at(link.first).paths.begin(), link.second));
      } else {
        out_.push_back("D " + join(*a_.files.at(link.first).paths.begin(), link.second));
      }
    }
    std::map<Inode, Inode> back;
    for (auto const& [x, y] : pairs_) back[y] = x;
    for (auto const& [link, j] : b_.entries) {
      Inode const i = back.contains(link.first) ? a_.child(back[link.first], link.second) : 0;
      if (i == j || (i != 0 && !shared(i) && !shared(j))) continue;
      auto const path = join(*b_.files.at(link.first).paths.begin(), link.second);
      if (shared(j)) {
        added_[j].insert(path);
      } else {
        auto const& names = b_.files.at(j).paths;
        out_.push_back("A " + path + (*names.begin() == path ? "" : " = " + *names.begin()));
      }
    }
    for (auto const& [i, file] : a_.files) {
      if (shared(i)) shared_file(i);
    }
    std::sort(out_.begin(), out_.end());
    return out_;
  }

 private:
  static std::string join(std::string const& dir, std::string const& name) { return dir == "/" ? dir + name : dir + "/" + name; }
  [[nodiscard]] bool shared(Inode i) const { return related_ && a_.files.contains(i) && b_.files.contains(i); }
  Inode partner(Link const& link) {
    auto const it = pairs_.find(link.first);
    return it == pairs_.end() ? 0 : b_.child(it->second, link.second);
  }
  void pair_directories() {
    for (auto const& f : a_.files) {
      if (shared(f.first) && S_ISDIR(f.second.info.mode)) pairs_[f.first] = f.first;
    }
    if (!related_) pairs_[a_.root] = b_.root;
    for (bool more = true; more;) {
      more = false;
      for (auto const& [link, i] : a_.entries) {
        if (pairs_.contains(i) || !S_ISDIR(a_.files.at(i).info.mode)) continue;
        Inode const j = partner(link);
        if (j == 0 || shared(j) || !S_ISDIR(b_.files.at(j).info.mode)) continue;
        pairs_[i] = j;
        more = true;
      }
    }
  }
  // What differs between two files, and in which words.
  std::string difference(Inode i, Inode j) {
    File const &x = a_.files.at(i), &y = b_.files.at(j);
    std::uint32_t c = 0;
    std::vector<ByteRange> content;
    std::vector<std::string> xattrs;
    bool const type = (x.info.mode & S_IFMT) != (y.info.mode & S_IFMT);
    if (type) c |= kDiffType;
    if ((x.info.mode & 07777) != (y.info.mode & 07777)) c |= kDiffMode;
    if (x.info.uid != y.info.uid || x.info.gid != y.info.gid) c |= kDiffOwner;
    if (x.info.mtime != y.info.mtime) c |= kDiffTimes;
    if (!type && x.info.rdev != y.info.rdev) c |= kDiffRdev;
    if (!type && S_ISLNK(x.info.mode) && x.content != y.content) c |= kDiffTarget;
    std::set<std::string> names;
    for (auto const& n : x.xattrs) names.insert(n.first);
    for (auto const& n : y.xattrs) names.insert(n.first);
    for (auto const& n : names) {
      if (x.xattrs.contains(n) != y.xattrs.contains(n) || x.xattrs.at(n) != y.xattrs.at(n)) xattrs.push_back(n);
    }
    if (!xattrs.empty()) c |= kDiffXattrs;
    if (!type && S_ISREG(x.info.mode)) {
      std::size_t const low = std::min(x.content.size(), y.content.size()), high = std::max(x.content.size(), y.content.size());
      for (std::size_t at = 0; at < high; at += kBlockSize) {
        std::size_t const end = std::min<std::size_t>(high, at + kBlockSize);
        if (end <= low && x.content.compare(at, end - at, y.content, at, end - at) == 0) continue;
        if (!content.empty() && content.back().offset + content.back().length == at) {
          content.back().length += end - at;
        } else {
          content.push_back({at, end - at});
        }
      }
      if (!content.empty()) c |= kDiffContent;
    }
    if (!type && !S_ISDIR(x.info.mode)) {
      std::set<Link> mapped;
      for (auto const& l : x.links) mapped.insert({pairs_.contains(l.first) ? pairs_.at(l.first) : 0, l.second});
      if (i == j ? x.links.size() != y.links.size() : mapped != y.links) c |= kDiffLinks;
    }
    return words(c, content, xattrs);
  }
  void changed(std::string const& path, Inode i, Inode j) {
    auto const what = difference(i, j);
    if (!what.empty()) out_.push_back("C " + path + what);
  }
  void shared_file(Inode i) {
    auto const what = difference(i, i);
    std::vector<std::string> const gone(removed_[i].begin(), removed_[i].end()), come(added_[i].begin(), added_[i].end());
    std::size_t const moves = std::min(gone.size(), come.size());
    for (std::size_t k = 0; k < moves; ++k) out_.push_back("R " + gone[k] + " -> " + come[k] + what);
    for (std::size_t k = moves; k < gone.size(); ++k) out_.push_back("D " + gone[k]);
    std::set<std::string> const fresh(come.begin() + static_cast<std::ptrdiff_t>(moves), come.end());
    for (auto const& path : b_.files.at(i).paths) {
      if (std::find(come.begin(), come.end(), path) == come.end() && !what.empty()) out_.push_back("C " + path + what);
    }
    for (auto const& path : fresh) {
      for (auto const& other : b_.files.at(i).paths) {
        if (fresh.contains(other)) continue;
        out_.push_back("A " + path + " = " + other);
        break;
      }
    }
  }

  Listing const& a_;
  Listing const& b_;
  bool const related_;
  std::map<Inode, Inode> pairs_;
  std::map<Inode, std::set<std::string>> removed_, added_;
  Lines out_;
};

// ---------------------------------------------------------------------------------------------------------------
// Trees to compare

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

Inode make_dir(Layer& layer, Inode directory, std::string const& name) { return must(layer.create(directory, name, {S_IFDIR | 0755})).inode; }

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
    case 0: case 1: case 2: {
      auto const made = layer.create(directory(), name(), {S_IFREG | 0644});
      if (made) write(layer, made->inode, 0, noise(rng, some_size(rng)));
      break;
    }
    case 3: ok(layer.create(directory(), name(), {S_IFDIR | 0755})); break;
    case 4: ok(layer.symlink(directory(), name(), "to-" + name(), {S_IFLNK | 0777})); break;
    case 5: ok(layer.create(directory(), name(), {S_IFCHR | 0600, 0, 0, rng() % 3 << 32 | 1})); break;
    case 6: if (inode != 0) ok(layer.link(inode, directory(), name())); break;
    case 7: if (inode != 0) ok(layer.unlink(file.first, file.second)); break;
    case 8: if (dir.first != 0) ok(layer.rmdir(dir.first, dir.second)); break;
    case 9: if (inode != 0) ok(layer.rename(file.first, file.second, directory(), name(), Rename::kReplace)); break;
    case 10: if (dir.first != 0) ok(layer.rename(dir.first, dir.second, directory(), name(), Rename::kReplace)); break;
    case 11:
      if (dir.first != 0 && inode != 0) ok(layer.rename(dir.first, dir.second, file.first, file.second, Rename::kExchange));
      break;
    case 12:  // not of a symlink, which Linux does not allow
      if (!S_ISLNK(all.files.at(any).info.mode)) ok(layer.setattr(any, {.permissions = 0600 + rng() % 8}));
      break;
    case 13: ok(layer.setattr(any, {.uid = static_cast<std::uint32_t>(rng() % 3)})); break;
    case 14: ok(layer.setattr(any, {.mtime = Timestamp{static_cast<std::int64_t>(rng() % 3), 5}})); break;
    case 15:
      if (rng() % 3 == 0) {
        ok(layer.removexattr(any, "user.a"));
      } else {
        ok(layer.setxattr(any, rng() % 2 ? "user.a" : "user.b", noise(rng, rng() % 3 == 0 ? 9000 : 3), XattrMode::kAny));
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
    made[i] = S_ISLNK(f.info.mode) ? must(to.symlink(dir, name, f.content, node)).inode : must(to.create(dir, name, node)).inode;
    if (S_ISREG(f.info.mode)) {
      for (std::size_t p = 0; p < f.content.size(); p += 70000) write(to, made[i], p, f.content.substr(p, 70000));
    }
  }
  for (auto const& [i, j] : made) {
    auto const& f = all.files.at(i);
    for (auto const& [name, value] : f.xattrs) must(to.setxattr(j, name, value, XattrMode::kAny));
    must(to.setattr(j, {.permissions = f.info.mode & 07777, .uid = f.info.uid, .gid = f.info.gid, .mtime = f.info.mtime}));
  }
}

Lines diff(Store& store, LayerId a, LayerId b, DiffOptions const& options = {}) {
  return lines_of(must(must(LayerDiff::open(store, a, b))->run(options)));
}

Lines naive(Store& store, LayerId a, LayerId b) {
  auto const la = must(store.layer(a)), lb = must(store.layer(b));
  auto const in_a = list(*la), in_b = list(*lb);
  return Naive(in_a, in_b).run();
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
      layers.push_back(must(s->create_layer("l" + std::to_string(i), layers[rng() % layers.size()])));
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
    // A layer on any other, or on nothing, with the tree of any: the same tree, sockets and odd names included.  (Not a diff without
    // lines: where directories changed places below, the one that stands at a path may be another inode.)
    std::atomic<bool> const stop{false};
    for (int i = 0; i < 4; ++i) {
      LayerId const onto = i == 3 ? 0 : layers[rng() % layers.size()], what = layers[rng() % layers.size()];
      CAPTURE(onto);
      CAPTURE(what);
      LayerId const flat = must(squash_layer(*s, onto, what, "flat" + std::to_string(i), stop));
      CHECK(must(compute_tree_digest(*s, what, {})) == must(compute_tree_digest(*s, flat, {})));
      CHECK(must(s->layer_info(flat)).parent == onto);
    }
  }
}

TEST_CASE("diff: what one can do to a file is told, and no more") {
  Pair p;
  auto& l = *p.second;
  Inode const etc = p.in("/etc"), d = p.in("/etc/d"), passwd = p.in("/etc/passwd"), big = p.in("/etc/big");
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
    CHECK(p.lines() == Lines{"A /etc/again = /etc/passwd", "C /etc/d/f links", "D /etc/d/f2", "C /etc/passwd links"});
    must(l.link(p.in("/etc/d/f"), d, "f3"));
    CHECK(p.lines() == Lines{"A /etc/again = /etc/passwd", "R /etc/d/f2 -> /etc/d/f3", "C /etc/passwd links"});
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
    CHECK(diff(*p.s, p.a, p.b, {.exclude_times = true, .below = {"/etc/d"}}) == Lines{"A /etc/d/new"});
    CHECK(diff(*p.s, p.a, p.b, {.exclude_times = true, .below = {"/etc/big"}}) == Lines{"R /etc/big -> /big"});
    CHECK(diff(*p.s, p.a, p.b, {.exclude_times = true, .below = {"/et"}}) == Lines{});
  }
}

TEST_CASE("diff: nothing is frozen by it, and what is open counts") {
  Pair p;
  make_file(*p.second, p.second->root(), "open", std::string(10000, 'x'));
  CHECK(p.lines() == Lines{"A /open"});
  CHECK_FALSE(p.second->frozen());
  must(p.s->commit_layer(p.b, "b1"));
  make_file(*p.second, p.second->root(), "later", "");
  CHECK(diff(*p.s, must(p.s->resolve_layer("b1")), must(p.s->resolve_layer("b")), {.exclude_times = true, .below = {}}) == Lines{"A /later"});
}

TEST_CASE("diff: 10 changes in 100,000 files cost some dozens of nodes") {
  TestStore s(512);
  LayerId const base = must(s->create_layer("base", 0));
  std::vector<Inode> files;
  {
    auto const l = must(s->layer(base));
    for (int d = 0; d < 1000; ++d) {
      Inode const dir = make_dir(*l, l->root(), "d" + std::to_string(d));
      for (int f = 0; f < 100; ++f) files.push_back(must(l->create(dir, "f" + std::to_string(f), {S_IFREG | 0644})).inode);
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
  CHECK(told.error().message.find("layer 'broken': cannot read the node at block " + std::to_string(block)) != std::string::npos);
  flip();
  CHECK(must(must(LayerDiff::open(*s, a, b))->run({})).size() == 2);
}
