// SPDX-License-Identifier: Apache-2.0
#include "fsck/links.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <tuple>

#include "format/hash.h"

namespace lcfs::fsck {
namespace {

auto order(auto const& l) { return std::tie(l.child, l.directory, l.name); }

std::uint64_t hash_of(std::array<std::uint8_t, 16> const& seed, std::string_view name) {
  return siphash24(seed, std::as_bytes(std::span{name.data(), name.size()}));
}

Key inode_key(std::uint64_t inode) { return {inode, kInode, 0}; }

}  // namespace

void Links::add_entry(std::uint64_t directory, std::uint64_t child, std::uint8_t type,
                      std::string_view name, std::uint64_t key) {
  entries_.push_back({child, directory, hash_of(seed_, name), key, type});
}

void Links::add_parent(std::uint64_t child, std::uint64_t directory, std::string_view name,
                       std::uint64_t key) {
  parents_.push_back({child, directory, hash_of(seed_, name), key, 0});
}

std::size_t Links::index_of(std::uint64_t inode) const {
  auto const it = std::lower_bound(
      inodes_.begin(), inodes_.end(), inode,
      [](InodeSummary const& i, std::uint64_t wanted) { return i.inode < wanted; });
  return it != inodes_.end() && it->inode == inode ? static_cast<std::size_t>(it - inodes_.begin())
                                                   : inodes_.size();
}

bool Links::is_orphan(std::uint64_t inode) const {
  return std::binary_search(orphans_.begin(), orphans_.end(), Orphan{inode, 0},
                            [](Orphan const& a, Orphan const& b) { return a.inode < b.inode; });
}

void Links::check(std::uint64_t root, Tell const& tell) {
  auto const less = [](Link const& a, Link const& b) { return order(a) < order(b); };
  std::sort(entries_.begin(), entries_.end(), less);
  std::sort(parents_.begin(), parents_.end(), less);
  // Entries and inodes are both sorted by inode now: one pass gives every inode its entries.
  std::size_t e = 0;
  auto const stray = [&] {
    tell(Code::kLink, {entries_[e].directory, kDirent, entries_[e].key}, entries_[e].child,
         fmt::format("entry names inode {}, which does not exist", entries_[e].child));
    ++e;
  };
  for (auto const& i : inodes_) {
    while (e < entries_.size() && entries_[e].child < i.inode) stray();
    auto const from = e;
    while (e < entries_.size() && entries_[e].child == i.inode) ++e;
    check_inode(i, std::span{entries_}.subspan(from, e - from), root, tell);
  }
  while (e < entries_.size()) stray();
  if (index_of(root) == inodes_.size())
    tell(Code::kInode, inode_key(root), root,
         fmt::format("the root directory, inode {}, does not exist", root));
  compare(tell);
  check_orphans(tell);
  check_reachable(root, tell);
}

void Links::compare(Tell const& tell) {
  std::size_t e = 0, p = 0;
  while (e < entries_.size() || p < parents_.size()) {
    bool const only_entry =
        p == parents_.size() || (e < entries_.size() && order(entries_[e]) < order(parents_[p]));
    if (only_entry) {
      auto const& l = entries_[e++];
      tell(Code::kLink, {l.directory, kDirent, l.key}, l.child,
           fmt::format("entry of inode {} has no back reference", l.child));
    } else if (e == entries_.size() || order(parents_[p]) < order(entries_[e])) {
      auto const& l = parents_[p++];
      tell(Code::kLink, {l.child, kParent, l.key}, l.child,
           fmt::format("back reference to directory {}, which has no such entry", l.directory));
    } else {
      ++e;
      ++p;
    }
  }
}

void Links::check_inode(InodeSummary const& i, std::span<Link const> entries, std::uint64_t root,
                        Tell const& tell) {
  for (auto const& l : entries)
    if (l.type != (i.mode & S_IFMT) >> 12)
      tell(Code::kLink, {l.directory, kDirent, l.key}, i.inode,
           fmt::format("entry says type {}, but the inode's mode is {:#o}", l.type, i.mode));
  bool const directory = S_ISDIR(i.mode);
  if (i.inode == root) {
    if (!directory)
      tell(Code::kInode, inode_key(root), root, fmt::format("the root has mode {:#o}", i.mode));
    if (!entries.empty())
      tell(Code::kLink, {entries[0].directory, kDirent, entries[0].key}, root,
           "entry names the root directory");
    if (i.nlink == 0) tell(Code::kInode, inode_key(root), root, "the root has nlink 0");
    return;
  }
  if (i.nlink == 0) {
    if (!is_orphan(i.inode))
      tell(Code::kOrphan, inode_key(i.inode), i.inode, "nlink 0, but it has no orphan record");
    if (directory && i.size != 0)
      tell(Code::kOrphan, inode_key(i.inode), i.inode,
           fmt::format("removed directory with {} entries", i.size));
  }
  // A directory's own nlink counts its subdirectories: the walk compares that.  Here: its place in
  // the tree.
  if (directory ? entries.size() != (i.nlink == 0 ? 0u : 1u) : entries.size() != i.nlink)
    tell(Code::kLink, inode_key(i.inode), i.inode,
         directory ? fmt::format("directory with {} names", entries.size())
                   : fmt::format("nlink {}, but {} entries name it", i.nlink, entries.size()));
}

void Links::check_orphans(Tell const& tell) {
  for (auto const& o : orphans_) {
    auto const index = index_of(o.inode);
    if (index == inodes_.size())
      tell(Code::kOrphan, {0, kOrphan, o.inode}, 0,
           fmt::format("orphan record of inode {}, which does not exist", o.inode));
    else if (inodes_[index].nlink != 0)
      tell(Code::kOrphan, {0, kOrphan, o.inode}, o.inode,
           fmt::format("orphan record, but nlink is {}", inodes_[index].nlink));
  }
}

// From each directory up to the first one that is known to be good.  Every step marks a directory,
// so the cost is one step per directory, whatever the depth.
void Links::check_reachable(std::uint64_t root, Tell const& tell) {
  enum State : std::uint8_t { kUnknown, kOnPath, kGood, kBad };
  std::vector<State> state(inodes_.size(), kUnknown);
  std::vector<std::size_t> up(inodes_.size(), inodes_.size());  // index of the parent directory
  for (auto const& l : entries_) {
    auto const child = index_of(l.child);
    if (child < inodes_.size()) up[child] = index_of(l.directory);
  }
  if (auto const r = index_of(root); r < inodes_.size()) state[r] = kGood;
  std::vector<std::size_t> path;
  for (std::size_t i = 0; i < inodes_.size(); ++i) {
    if (!S_ISDIR(inodes_[i].mode) || state[i] != kUnknown) continue;
    path.clear();
    auto at = i;
    while (at < inodes_.size() && state[at] == kUnknown) {
      state[at] = kOnPath;
      path.push_back(at);
      at = up[at];
    }
    bool const cycle = at < inodes_.size() && state[at] == kOnPath;
    // A directory without a name was reported as a link; what is below it is reported once, as not
    // reachable, at its top.
    auto const end = at < inodes_.size() && state[at] == kGood ? kGood : kBad;
    for (auto const p : path) state[p] = end;
    if (cycle)
      tell(Code::kCycle, inode_key(inodes_[at].inode), inodes_[at].inode,
           "directory contains itself");
  }
}

}  // namespace lcfs::fsck
