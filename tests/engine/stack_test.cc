// SPDX-License-Identifier: Apache-2.0
// Layers stacked from random changesets: what a store shows of them against the same done with maps
// (tests/support/naive_stack.h).
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/import.h"
#include "engine/store.h"
#include "tests/support/naive_stack.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

using Listing = std::map<std::string, std::string>;

std::string text_of(Layer& layer, Inode inode, InodeInfo const& info) {
  if (S_ISLNK(info.mode)) return must(layer.readlink(inode));
  if (!S_ISREG(info.mode)) return {};
  std::string data(info.size, '?');
  must(layer.read(inode, 0, std::as_writable_bytes(std::span{data.data(), data.size()})));
  return data;
}

// As naive_listing().
Listing listing(Layer& layer) {
  struct Seen {
    Inode inode = 0;
    InodeInfo info{};
    std::vector<std::string> names{};
  };
  std::map<std::string, Seen> all;
  std::map<Inode, std::vector<std::string>> links;
  std::vector<std::pair<Inode, std::string>> todo{{layer.root(), ""}};
  while (!todo.empty()) {
    auto const [inode, path] = todo.back();
    todo.pop_back();
    auto const info = must(layer.getattr(inode)).info;
    all[path.empty() ? "/" : path] = {inode, info, must(layer.listxattr(inode))};
    links[inode].push_back(path);
    if (!S_ISDIR(info.mode)) continue;
    must(layer.readdir(inode, 0, [&, above = path](DirEntry const& e) {
      todo.emplace_back(e.inode, above + "/" + e.name);
      return true;
    }));
  }
  Listing out;
  for (auto& [path, seen] : all) {
    auto& text = out[path];
    text = fmt::format("{:o} {} ", seen.info.mode, seen.info.mtime.sec);
    if (S_ISDIR(seen.info.mode)) {
      text += fmt::format("{} names, {} links", seen.info.size, seen.info.nlink);
    } else {
      auto& names = links[seen.inode];
      std::sort(names.begin(), names.end());
      CHECK(seen.info.nlink == names.size());
      text +=
          fmt::format("'{}' at {}", text_of(layer, seen.inode, seen.info), fmt::join(names, ", "));
    }
    std::sort(seen.names.begin(), seen.names.end());
    for (auto const& name : seen.names)
      text += fmt::format(" {}={}", name, must(layer.getxattr(seen.inode, name)));
  }
  return out;
}

// One random changeset, told to both.
class Changeset {
 public:
  // known: paths that may be there, to link to.
  Changeset(std::mt19937_64& random, Ingest& ingest, std::vector<std::string> known)
      : random_(random), ingest_(ingest), known_(std::move(known)) {}

  // False: refused, by both.
  bool make() {
    for (auto n = roll(40); n > 0; --n) {
      auto const taken = member();
      REQUIRE_MESSAGE(taken.first == taken.second, said_);
      if (!taken.first) return false;
    }
    return true;
  }
  [[nodiscard]] NaiveLayer const& naive() const { return naive_; }
  [[nodiscard]] std::string const& said() const { return said_; }

 private:
  std::uint64_t roll(std::uint64_t below) {
    return std::uniform_int_distribution<std::uint64_t>(0, below - 1)(random_);
  }

  // Few names, so that they meet.
  std::string path(bool target = false) {
    static constexpr char const* kNames[] = {"a", "b", "c", "long name \xff", "d"};
    std::string out = roll(12) == 0 ? "/" : roll(12) == 0 ? "./" : "";
    for (auto n = roll(20) == 0 ? 0 : 1 + roll(3); n > 0; --n) {
      bool const up = roll(target ? 8 : 1000) == 0;
      out += up ? ".." : kNames[roll(std::size(kNames))];
      if (n > 1 || roll(10) == 0) out += roll(15) == 0 ? "//" : "/";
    }
    return out;
  }

  NaiveFile file(std::uint32_t type) {
    NaiveFile f{type | static_cast<std::uint32_t>(roll(01000)),
                1 + static_cast<std::int64_t>(roll(1'000'000)),
                {},
                {}};
    for (auto n = roll(8) == 0 ? roll(3) : 0; n > 0; --n)
      f.xattrs[fmt::format("user.x{}", roll(5))] = std::string(roll(3000), 'v');
    return f;
  }

  EntryMeta meta(NaiveFile const& f) {
    EntryMeta m;
    m.permissions = f.mode & 07777;
    m.mtime = {f.mtime, 0};
    for (auto const& [name, value] : f.xattrs) m.xattrs.emplace_back(name, value);
    return m;
  }

  std::pair<bool, bool> member() {
    auto const where = path();
    auto say = [&](std::string_view what) { said_ += fmt::format("{} '{}'; ", what, where); };
    auto& delta = ingest_.delta();
    switch (roll(12)) {
      case 0:
      case 1: {
        say("directory");
        auto f = file(S_IFDIR);
        bool const real = delta.add_directory(where, meta(f)).ok();
        return {real, naive_.directory(where, f)};
      }
      case 2:
      case 3:
      case 4: {
        say("file");
        auto f = file(S_IFREG);
        f.text =
            std::string(roll(3) == 0 ? roll(20'000) : roll(100), static_cast<char>('a' + roll(26)));
        ingest_.begin_content(f.text.size());
        must(ingest_.append(std::as_bytes(std::span{f.text.data(), f.text.size()})));
        bool const real = delta.add_file(where, meta(f), must(ingest_.end_content())).ok();
        known_.push_back(where);
        return {real, naive_.other(where, f)};
      }
      case 5:
      case 6: {
        auto f = file(S_IFLNK);
        f.mode = S_IFLNK | 0777;
        f.text = path(true);
        if (f.text.empty()) f.text = ".";
        say("symlink to " + f.text + " as");
        bool const real = delta.add_symlink(where, meta(f), f.text).ok();
        return {real, naive_.other(where, f)};
      }
      case 7:
      case 8: {
        auto const target = known_.empty() || roll(20) == 0 ? path() : known_[roll(known_.size())];
        say("link to " + target + " as");
        bool const real = delta.add_hardlink(where, target).ok();
        return {real, naive_.hardlink(where, target)};
      }
      case 9: {
        say("fifo");
        auto f = file(S_IFIFO);
        bool const real = delta.add_special(where, meta(f), S_IFIFO).ok();
        return {real, naive_.other(where, f)};
      }
      case 10: {
        say("whiteout of");
        bool const real = delta.add_whiteout(where).ok();
        return {real, naive_.whiteout(where)};
      }
      default: {
        if (roll(3) != 0) return {true, true};
        say("opaque");
        bool const real = delta.add_opaque(where).ok();
        return {real, naive_.opaque(where)};
      }
    }
  }

  std::mt19937_64& random_;
  Ingest& ingest_;
  std::vector<std::string> known_;
  NaiveLayer naive_{};
  std::string said_{};
};

}  // namespace

TEST_CASE(
    "stacking: random changesets on random layers give the tree that the rules say, and are "
    "refused where they say so") {
  unsigned refused = 0, stacked = 0;
  for (unsigned seed = 1; seed <= 400; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    TestStore store(16);
    LayerId below = 0;
    NaiveTree naive;
    std::string history;
    for (unsigned i = 0; i < 8; ++i) {
      ImportTransaction transaction(*store);
      auto const ingest = must(transaction.begin_layer());
      std::vector<std::string> known;
      if (naive) {
        for (auto const& [path, text] : naive_listing(naive)) {
          if (!text.starts_with('4')) known.push_back(path);  // directories have no links
        }
      }
      Changeset changes(random, *ingest, known);
      bool const taken = changes.make();
      history += fmt::format("\n{}: {}", i, changes.said());
      INFO(history);
      must(ingest->finish());
      if (!taken) {
        ++refused;
        continue;
      }
      LayerMeta meta;
      meta.chain_id.fill(static_cast<std::uint8_t>(i + 1));
      auto const id = transaction.stack(*ingest, below, meta);
      auto const tree = changes.naive().stack(naive);
      REQUIRE_MESSAGE(id.ok() == (tree != nullptr), (id ? std::string() : id.error().text()));

      if (!id) {
        ++refused;
        continue;
      }
      must(transaction.commit());
      ++stacked;
      below = *id;
      naive = tree;
      auto const is = listing(*must(store->layer(below))), should = naive_listing(naive);
      if (is == should) continue;
      for (auto const& entry : should) {
        auto const it = is.find(entry.first);
        CHECK_MESSAGE(it != is.end(), entry.first << " is missing");
        if (it != is.end()) CHECK_MESSAGE(it->second == entry.second, entry.first);
      }
      for (auto const& entry : is)
        CHECK_MESSAGE(should.contains(entry.first),
                      entry.first << " should not be there: " << entry.second);
      return;
    }
  }
  CHECK(refused > 300);
  CHECK(stacked > 800);
}
