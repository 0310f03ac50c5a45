// SPDX-License-Identifier: Apache-2.0
// Decides what stays of a damaged layer, and where.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <tuple>
#include <unordered_map>

#include "format/hash.h"
#include "fsck/mender.h"

namespace lcfs::fsck {
namespace {

template <class T>
std::string text_of(T const& bytes) {
  return {reinterpret_cast<char const*>(bytes.data()), bytes.size()};
}

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  auto x = a * 0x9e3779b97f4a7c15u ^ (b + 0x7f4a7c15u) * 0xbf58476d1ce4e5b9u;
  return x ^ (x >> 29);
}
std::uint64_t mix_key(std::uint64_t inode, Kind kind, std::uint64_t offset) {
  return mix(inode * 8 + kind, offset);
}

auto order(auto const& l) { return std::tie(l.child, l.directory, l.name, l.key); }

}  // namespace

Mender::Node* Mender::find(std::uint64_t inode) {
  auto const it =
      std::lower_bound(nodes_.begin(), nodes_.end(), inode,
                       [](Node const& n, std::uint64_t wanted) { return n.inode < wanted; });
  return it != nodes_.end() && it->inode == inode ? &*it : nullptr;
}

bool Mender::directory(Node const* n) const {
  return n != nullptr && (n->flags & kDrop) == 0 &&
         ((n->flags & kMade) != 0 || ((n->flags & kHas) != 0 && S_ISDIR(n->mode)));
}

void Mender::plan(bool complete) {
  if (!complete) now_.flags |= kGap;  // the missing part may be the last one
  close();
  now_ = {};
  complete_ = complete;
  left_ = std::any_of(nodes_.begin(), nodes_.end(),
                      [](Node const& n) { return (n.flags & (kHas | kEntries)) != 0; });
  make_directories();
  drop_lost_files(complete);
  std::sort(entries_.begin(), entries_.end(),
            [](Link const& a, Link const& b) { return order(a) < order(b); });
  std::sort(parents_.begin(), parents_.end(),
            [](Link const& a, Link const& b) { return order(a) < order(b); });
  check_entries();
  tell_of_entries();
  match();
  choose_names();
}

// Adds directories that have records, but no inode record; the root in any case.
void Mender::make_directories() {
  std::set<std::uint64_t> wanted;
  auto const* root = find(c_.root);
  if (root == nullptr || (root->flags & kHas) == 0 || !S_ISDIR(root->mode)) wanted.insert(c_.root);
  for (auto const& n : nodes_)
    if ((n.flags & (kHas | kEntries)) == kEntries) wanted.insert(n.inode);
  for (auto const& p : parents_) {
    auto const* child = find(p.child);
    auto const* up = find(p.directory);
    bool const lost = up == nullptr || (up->flags & kHas) == 0;
    if (lost && p.directory != 0 && child != nullptr && (child->flags & kHas) != 0)
      wanted.insert(p.directory);
  }
  for (auto const inode : wanted) {
    auto* n = find(inode);
    if (n == nullptr) {
      Node made;
      made.inode = inode;
      n = &*nodes_.insert(
          std::lower_bound(nodes_.begin(), nodes_.end(), inode,
                           [](Node const& a, std::uint64_t b) { return a.inode < b; }),
          made);
    }
    n->flags = (n->flags | kMade) & ~static_cast<std::uint32_t>(kHas | kLost | kInlineData);
    n->mode = S_IFDIR | (inode == c_.root ? 0755u : 0700u);
    n->found = 0;
    c_.lost(fmt::format(
        "{}: owner, mode and times of the directory are lost, and possibly names in it; it now "
        "belongs to root, with mode {:#o}",
        at(inode), n->mode & 07777));
  }
}

void Mender::drop_lost_files(bool complete) {
  for (auto& n : nodes_) {
    if ((n.flags & kMade) != 0) continue;
    std::string why;
    if ((n.flags & kHas) == 0) {
      why = "its inode record is lost";
    } else if (S_ISREG(n.mode)) {
      bool const small =
          n.size > 0 && n.size <= kInlineMax && n.found == 0 && (n.flags & kInlineData) == 0;
      if (n.found < n.blocks && (!complete || (n.flags & kLost) != 0))
        why = fmt::format("the locations of {} of its {} blocks are lost", n.blocks - n.found,
                          n.blocks);
      else if ((n.flags & kLost) != 0 || (small && n.blocks == 0 && (n.flags & kGap) != 0))
        why = "part of its data is lost";
      else if (c_.condemned && c_.condemned(n.inode))
        why = "part of its data cannot be read";
    } else if (S_ISLNK(n.mode) && (n.flags & kInlineData) == 0) {
      why = "its target is lost";
    }
    if (why.empty()) {
      // Its last records may have been in the lost part: no counter shows it.
      if ((n.flags & kGap) != 0 && !complete)
        c_.lost(fmt::format("{}: extended attributes may be lost", at(n.inode)));
      continue;
    }
    n.flags |= kDrop;
    gone_[n.inode] = why;
  }
}

// Removes entries of missing inodes, and corrects the types of the others.
void Mender::check_entries() {
  for (auto& e : entries_) {
    auto const* child = find(e.child);
    bool const leads = child != nullptr && (child->flags & kDrop) == 0 && e.child != c_.root &&
                       e.child != e.directory;
    e.drop = !leads || !directory(find(e.directory));
  }
}

// Entries of removed inodes: users know the files by these names.
void Mender::tell_of_entries() {
  for (auto const& e : entries_) {
    if (!e.drop || e.child == c_.root || e.child == e.directory || !directory(find(e.directory)))
      continue;
    auto const* child = find(e.child);
    if (child == nullptr)
      gone_.emplace(e.child, "its inode record is lost");
    else if ((child->flags & kDrop) == 0)
      continue;
    parting_[{e.directory, kDirent, e.key}] = e.child;
  }
}

// Pairs entries and back references.
void Mender::match() {
  std::size_t p = 0;
  auto const pair = [](Link const& l) { return std::tie(l.child, l.directory, l.name); };
  for (auto& e : entries_) {
    while (p < parents_.size() && pair(parents_[p]) < pair(e)) ++p;
    if (p == parents_.size() || pair(parents_[p]) != pair(e) || parents_[p].matched || e.drop)
      continue;
    e.matched = parents_[p].matched = true;
  }
}

void Mender::choose_names() {
  // A directory has one name: that of its back reference, if it has one.
  std::set<std::uint64_t> named;
  for (std::size_t i = 0; i < entries_.size();) {
    auto j = i;
    while (j < entries_.size() && entries_[j].child == entries_[i].child) ++j;
    if (directory(find(entries_[i].child))) {
      auto keep = j;
      for (auto k = i; k < j; ++k)
        if (!entries_[k].drop && (keep == j || (entries_[k].matched && !entries_[keep].matched)))
          keep = k;
      for (auto k = i; k < j; ++k)
        if (k != keep) entries_[k].drop = true;
    }
    i = j;
  }
  for (auto const& e : entries_) {
    if (e.drop) {
      drop_.insert({e.directory, kDirent, e.key});
      continue;
    }
    named.insert(e.child);
    if (!e.matched) wanted_[{e.directory, kDirent, e.key}] = {e.child, e.directory, false};
    auto const* child = find(e.child);
    if (e.type == (child->mode & S_IFMT) >> 12) continue;
    // Same key, different value: its name is read in the second pass.
    wanted_[{e.directory, kDirent, e.key}] = {e.child, e.directory, false};
    drop_.insert({e.directory, kDirent, e.key});
    taken_keys_.insert(mix_key(e.directory, kDirent, e.key));
  }
  for (auto& p : parents_) {
    if (p.matched) {
      // The entry may have been removed since.
      auto const same =
          std::lower_bound(entries_.begin(), entries_.end(), p, [](Link const& a, Link const& b) {
            return std::tie(a.child, a.directory, a.name) < std::tie(b.child, b.directory, b.name);
          });
      if (same != entries_.end() &&
          std::tie(same->child, same->directory, same->name) ==
              std::tie(p.child, p.directory, p.name) &&
          !same->drop)
        continue;
    }
    drop_.insert({p.child, kParent, p.key});
    auto const* child = find(p.child);
    if (p.matched || child == nullptr || (child->flags & kDrop) != 0 || p.child == c_.root ||
        p.child == p.directory || !directory(find(p.directory)))
      continue;
    if (directory(child) && !named.insert(p.child).second) continue;
    wanted_[{p.child, kParent, p.key}] = {p.child, p.directory, true};
  }
}

void Mender::index_names() {
  if (indexed_) return;
  indexed_ = true;
  for (auto const& e : entries_) {
    taken_keys_.insert(mix_key(e.directory, kDirent, e.key));
    if (!e.drop) taken_names_.insert(mix(e.directory, e.name));
  }
  for (auto const& p : parents_) taken_keys_.insert(mix_key(p.child, kParent, p.key));
}

void Mender::add_entry(std::uint64_t up, std::uint64_t child, std::string const& name) {
  auto const* n = find(child);
  auto offset = name_key(c_.seed, name);
  while (taken_keys_.contains(mix_key(up, kDirent, offset))) ++offset;
  taken_keys_.insert(mix_key(up, kDirent, offset));
  taken_names_.insert(mix(up, hash(name)));
  put_[{up, kDirent, offset}] =
      encode_dirent({child, static_cast<std::uint8_t>((n->mode & S_IFMT) >> 12), name});
  added_.emplace_back(up, child);
  add_back_reference(child, up, name);
}

void Mender::add_back_reference(std::uint64_t child, std::uint64_t up, std::string const& name) {
  auto offset = parent_key(c_.seed, up, name);
  while (taken_keys_.contains(mix_key(child, kParent, offset))) ++offset;
  taken_keys_.insert(mix_key(child, kParent, offset));
  put_[{child, kParent, offset}] = encode_parent({up, name});
}

std::uint64_t Mender::inodes_accounted_for() const {
  auto const stay = std::count_if(nodes_.begin(), nodes_.end(),
                                  [](Node const& n) { return (n.flags & kDrop) == 0; });
  return static_cast<std::uint64_t>(stay) + gone_.size();
}

void Mender::finish_plan() {
  for (auto const& [inode, why] : gone_)
    if (!told_.contains(inode)) c_.lost(fmt::format("{}: removed, because {}", at(inode), why));
  wanted_.clear();
  parting_.clear();
  if (!pending_.empty() || !back_pending_.empty()) reattach();
  break_cycles();
  settle_orphans();
  count();
}

void Mender::reattach() {
  index_names();
  for (auto const& b : back_pending_) {
    // An entry with a wrong type was dropped above and is made again; one that lacks only its back
    // reference stays.
    auto const same = std::find_if(
        std::lower_bound(entries_.begin(), entries_.end(), b.child,
                         [](Link const& l, std::uint64_t c) { return l.child < c; }),
        entries_.end(), [&](Link const& l) {
          return l.child != b.child || (l.directory == b.directory && l.name == hash(b.name));
        });
    if (same == entries_.end() || same->child != b.child) continue;
    if (drop_.contains({b.directory, kDirent, same->key})) {
      auto const* child = find(b.child);
      put_[{b.directory, kDirent, same->key}] =
          encode_dirent({b.child, static_cast<std::uint8_t>((child->mode & S_IFMT) >> 12), b.name});
    }
    if (!same->matched) add_back_reference(b.child, b.directory, b.name);
  }
  std::set<std::uint64_t> named;
  for (auto const& e : entries_)
    if (!e.drop) named.insert(e.child);
  for (auto const& p : pending_) {
    auto const* child = find(p.child);
    bool const leads = child != nullptr && (child->flags & kDrop) == 0 && p.child != c_.root &&
                       p.child != p.directory;
    if (!leads || !directory(find(p.directory)) ||
        taken_names_.contains(mix(p.directory, hash(p.name))))
      continue;
    bool const fresh = named.insert(p.child).second;
    if (directory(child) && !fresh) continue;
    add_entry(p.directory, p.child, p.name);
  }
}

// Every directory must lead to the root: of those on a cycle one loses its name, and
// directories without a name go to lost+found.
void Mender::break_cycles() {
  std::vector<std::size_t> up(nodes_.size(), nodes_.size());
  auto const index = [this](std::uint64_t inode) {
    return static_cast<std::size_t>(find(inode) - nodes_.data());
  };
  for (auto const& e : entries_)
    if (!e.drop && directory(find(e.child))) up[index(e.child)] = index(e.directory);
  for (auto const& [d, child] : added_)
    if (directory(find(child))) up[index(child)] = index(d);
  enum State : std::uint8_t { kUnknown, kOnPath, kDone };
  std::vector<State> state(nodes_.size(), kUnknown);
  std::vector<std::size_t> path;
  std::set<std::uint64_t> cut;
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    path.clear();
    auto at = i;
    while (at < nodes_.size() && state[at] == kUnknown) {
      state[at] = kOnPath;
      path.push_back(at);
      at = up[at];
    }
    if (at < nodes_.size() && state[at] == kOnPath && directory(&nodes_[at]))
      cut.insert(nodes_[at].inode);
    for (auto const p : path) state[p] = kDone;
  }
  if (cut.empty()) return;
  for (auto& e : entries_) {
    if (e.drop || !cut.contains(e.child)) continue;
    e.drop = true;
    drop_.insert({e.directory, kDirent, e.key});
    put_.erase({e.directory, kDirent, e.key});
  }
  for (auto const& p : parents_)
    if (cut.contains(p.child)) drop_.insert({p.child, kParent, p.key});
  std::erase_if(put_, [&](auto const& r) {
    if (r.first.kind == kParent) return cut.contains(r.first.inode);
    if (r.first.kind != kDirent) return false;
    auto const d = parse_dirent(r.first, std::as_bytes(std::span{r.second}));
    return d && cut.contains(d->inode);
  });
  std::erase_if(added_, [&](auto const& a) { return cut.contains(a.second); });
}

// Inodes without names: those that were removed while open stay so, the others go to lost+found.
void Mender::settle_orphans() {
  std::set<std::uint64_t> const orphans(orphans_.begin(), orphans_.end());
  std::vector<std::uint64_t> nameless;
  {
    std::vector<bool> named(nodes_.size());
    std::vector<std::uint64_t> entries(nodes_.size());
    auto const mark = [&](std::uint64_t d, std::uint64_t child) {
      named[static_cast<std::size_t>(find(child) - nodes_.data())] = true;
      ++entries[static_cast<std::size_t>(find(d) - nodes_.data())];
    };
    for (auto const& e : entries_)
      if (!e.drop) mark(e.directory, e.child);
    for (auto const& [d, child] : added_) mark(d, child);
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      auto& n = nodes_[i];
      if (named[i] || n.inode == c_.root || (n.flags & kDrop) != 0) continue;
      bool const removed = orphans.contains(n.inode) || (n.nlink == 0 && (n.flags & kMade) == 0);
      if (removed && entries[i] == 0)
        n.flags |= kKeepOrphan;
      else
        nameless.push_back(n.inode);
    }
  }
  for (auto const inode : orphans) {
    auto const* n = find(inode);
    if (n == nullptr || (n->flags & kKeepOrphan) == 0) drop_.insert({0, kOrphan, inode});
  }
  for (auto const& n : nodes_)
    if ((n.flags & kKeepOrphan) != 0 && !orphans.contains(n.inode))
      put_[{0, kOrphan, n.inode}] = "";
  for (auto const inode : nameless) attach(inode);
}

std::uint64_t Mender::lost_found() {
  if (lost_found_ != 0) return lost_found_;
  index_names();
  std::string name = "lost+found";
  for (int n = 1;; ++n) {
    auto const h = hash(name);
    if (!taken_names_.contains(mix(c_.root, h))) break;
    for (auto const& e : entries_)
      if (!e.drop && e.directory == c_.root && e.name == h && directory(find(e.child)))
        return lost_found_ = e.child;
    name = fmt::format("lost+found.{}", n);
  }
  Node made;
  made.inode = c_.lost_found_inode();
  made.mode = S_IFDIR | 0700;
  made.flags = kMade;
  nodes_.insert(std::lower_bound(nodes_.begin(), nodes_.end(), made.inode,
                                 [](Node const& a, std::uint64_t b) { return a.inode < b; }),
                made);
  add_entry(c_.root, made.inode, name);
  return lost_found_ = made.inode;
}

void Mender::attach(std::uint64_t inode) {
  auto const up = lost_found();
  auto name = fmt::format("#{}", inode);
  for (int n = 1; taken_names_.contains(mix(up, hash(name))); ++n)
    name = fmt::format("#{}.{}", inode, n);
  c_.lost(fmt::format("inode {}: has no name left; moved to lost+found/{}", inode, name));
  add_entry(up, inode, name);
}

void Mender::count() {
  auto const add = [this](std::uint64_t d, std::uint64_t child) {
    auto* up = find(d);
    auto* n = find(child);
    ++up->entries;
    ++n->names;
    if (directory(n)) ++up->subdirectories;
  };
  for (auto const& e : entries_)
    if (!e.drop) add(e.directory, e.child);
  for (auto const& [d, child] : added_) add(d, child);
  // Names that were removed for a reason were reported with it.
  std::unordered_map<std::uint64_t, std::uint64_t> gone;
  for (auto const& e : entries_)
    if (e.drop) ++gone[e.directory];
  for (auto& n : nodes_) {
    if ((n.flags & kDrop) != 0) continue;
    bool const orphan = (n.flags & kKeepOrphan) != 0;
    if (directory(&n)) {
      auto const it = gone.find(n.inode);
      auto const known = n.entries + (it == gone.end() ? 0 : it->second);
      // For other names of a file that stays or was reported, too.
      if (!complete_ && (n.flags & kHas) != 0 && known < n.size)
        c_.lost(fmt::format("{}: {} of the {} names in it {} lost", at(n.inode), n.size - known,
                            n.size, n.size - known == 1 ? "is" : "are"));
      n.size = n.entries;
      n.nlink = orphan ? 0 : 2 + n.subdirectories;
    } else {
      // Without damage only the count is wrong.
      if (!complete_ && (n.flags & kHas) != 0 && n.names < n.nlink)
        c_.lost(fmt::format("{}: {} of its {} names {} lost", at(n.inode), n.nlink - n.names,
                            n.nlink, n.nlink - n.names == 1 ? "is" : "are"));
      n.nlink = n.names;
    }
    if ((n.flags & kMade) == 0) continue;
    InodeInfo info;
    info.mode = n.mode;
    info.nlink = n.nlink;
    info.size = n.size;
    info.atime = info.mtime = info.ctime = info.btime = c_.now;
    put_[{n.inode, kInode, 0}] = text_of(encode_inode(info));
  }
  // These records were added before their inodes were dropped.
  std::erase_if(put_, [this](auto const& r) {
    auto const* n = find(r.first.inode);
    return n != nullptr && (n->flags & kDrop) != 0;
  });
}

}  // namespace lcfs::fsck
