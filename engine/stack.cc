// SPDX-License-Identifier: Apache-2.0
#include "engine/stack.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/probe.h"
#include "format/hash.h"

// The layer being stacked is seen by this thread only: its lock is held once around all of it, in
// run().

namespace lcfs {

namespace {

using Impl = Delta::Impl;
constexpr std::uint8_t dirent_type(std::uint32_t mode) {
  return static_cast<std::uint8_t>((mode & S_IFMT) >> 12);
}

}  // namespace

bool LeavesAhead::touch(Inode inode) {
  constexpr std::size_t kMost = 64;  // 1 MiB
  if (inode >= begin_ && inode < end_) return false;
  bool const goes_on = inode >= end_ && inode - end_ <= end_ - begin_;
  leaves_ = goes_on ? std::min(leaves_ * 4, kMost) : 1;
  begin_ = inode;
  end_ = std::max(tree_.read_ahead({inode, kInode, 0}, leaves_).inode, inode + 1);
  return true;
}

Error Stacker::at_entry(Error e, std::uint32_t node) const {
  if (e.path.empty()) e.path = delta_.path_of(node);
  return e;
}

Inode Stacker::inode_of(std::uint32_t node) const {
  Node const& n = delta_.nodes[node];
  if (n.kind == Impl::kLowerLink) return lower_files_[n.inode].inode;
  if (n.inode == kNone) return implied_.at(node);
  return delta_.files[n.inode].number;
}

std::uint32_t Stacker::mode_of(std::uint32_t node) const {
  Node const& n = delta_.nodes[node];
  if (n.kind == Impl::kLowerLink) return lower_files_[n.inode].mode;
  return n.inode == kNone ? S_IFDIR : delta_.files[n.inode].mode;
}

Status Stacker::run(bool has_parent) LCFS_NO_TSA {
  WriteLock lock(layer_.mu_);
  {
    Lock dirty(store_.dirty_mu);
    layer_.tree_.set_generation(store_.generation);
  }
  lower_files_.resize(delta_.lower_links.size());
  if (has_parent) {
    LCFS_TRY(link_lower_files());
    LCFS_TRY(apply_whiteouts());
  } else if (!delta_.lower_links.empty()) {
    for (std::uint32_t i = 0; i < delta_.nodes.size(); ++i) {
      Node const& n = delta_.nodes[i];
      if (n.kind == Impl::kLowerLink && !n.dead) {
        return at_entry(Error{Errc::kInvalid, fmt::format("hard link to nothing: '{}'",
                                                          delta_.lower_links[n.inode])},
                        i);
      }
    }
  }
  LCFS_TRY(merge(has_parent));
  LCFS_TRY(settle_lost());
  LCFS_TRY(append_new());
  layer_.count_nodes();
  return store_.write_nodes(layer_.tree_.seal());
}

std::vector<Extent> Stacker::take_kept() {
  normalize(kept_);
  return std::move(kept_);
}

// ---------------------------------------------------------------------------------------------------------------
// The lower layers

Result<std::optional<Stacker::LowerFile>> Stacker::find_lower(Inode directory,
                                                              std::string_view name) LCFS_NO_TSA {
  Record hold;
  LCFS_TRY_ASSIGN(auto const entry, layer_.find_entry(directory, name, hold));
  if (!entry) return std::optional<LowerFile>{};
  return std::optional<LowerFile>({entry->inode, static_cast<std::uint32_t>(entry->type) << 12});
}

Result<std::optional<Stacker::LowerFile>> Stacker::resolve(std::string_view path, Inode* directory,
                                                           std::string_view* name) {
  LCFS_TRY_ASSIGN(auto const parts, split_path(path));
  LowerFile at{layer_.root(), S_IFDIR};
  for (auto const part : parts) {
    if (!S_ISDIR(at.mode)) return std::optional<LowerFile>{};
    *directory = at.inode;
    *name = part;
    LCFS_TRY_ASSIGN(auto const next, find_lower(at.inode, part));
    if (!next) return std::optional<LowerFile>{};
    at = *next;
  }
  return std::optional<LowerFile>(at);
}

// Counts the links first, so that a whiteout of the target's old name does not take the file away.
Status Stacker::link_lower_files() LCFS_NO_TSA {
  for (std::uint32_t i = 0; i < delta_.nodes.size(); ++i) {
    Node const& n = delta_.nodes[i];
    if (n.kind != Impl::kLowerLink || n.dead) continue;
    std::string const& target = delta_.lower_links[n.inode];
    Inode directory = 0;
    std::string_view name;
    LCFS_TRY_ASSIGN(auto const found, resolve(target, &directory, &name));
    if (!found)
      return at_entry(Error{Errc::kInvalid, fmt::format("hard link to nothing: '{}'", target)}, i);
    if (S_ISDIR(found->mode)) {
      return at_entry(Error{Errc::kInvalid, fmt::format("hard link to a directory: '{}'", target)},
                      i);
    }
    lower_files_[n.inode] = *found;
    LCFS_TRY_ASSIGN(InodeInfo info, layer_.load(found->inode));
    ++info.nlink;
    LCFS_TRY(layer_.store(found->inode, info));
  }
  return {};
}

Status Stacker::apply_whiteouts() LCFS_NO_TSA {
  for (auto const& path : delta_.whiteouts) {
    Inode directory = 0;
    std::string_view name;
    LCFS_TRY_ASSIGN(auto const found, resolve(path, &directory, &name));
    if (!found || directory == 0) continue;  // hides nothing: other tools write such too
    LCFS_TRY(remove_lower(directory, name, found->inode, found->mode));
  }
  for (auto const& path : delta_.opaques) {
    Inode directory = 0;
    std::string_view name;
    LCFS_TRY_ASSIGN(auto const found, resolve(path, &directory, &name));
    if (!found || !S_ISDIR(found->mode)) continue;
    std::vector<std::pair<std::string, LowerFile>> entries;
    LCFS_TRY(scan(layer_.tree_, {found->inode, kDirent, 0}, {found->inode, kDirent, ~0ull},
                  [&](Key const& key, Bytes value) -> Result<bool> {
                    LCFS_TRY_ASSIGN(auto const d, parse_dirent(key, value));
                    entries.emplace_back(
                        d.name, LowerFile{d.inode, static_cast<std::uint32_t>(d.type) << 12});
                    return true;
                  }));
    for (auto const& [entry, file] : entries)
      LCFS_TRY(remove_lower(found->inode, entry, file.inode, file.mode));
  }
  return {};
}

Status Stacker::lose_name(Inode directory, std::string_view name, Inode inode) {
  constexpr std::size_t kBatch = 1u << 15;  // bounds memory; large enough that neighbours meet
  lost_.push_back({inode, directory, std::string(name)});
  return lost_.size() < kBatch ? Status{} : settle_lost();
}

// Files that lost their last name go, neighbours in one sweep over the tree; the others lose a
// back-reference.
Status Stacker::settle_lost() LCFS_NO_TSA {
  std::sort(lost_.begin(), lost_.end(),
            [](Lost const& a, Lost const& b) { return a.inode < b.inode; });
  Inode first = 0, last = 0;  // files to remove, without a gap; 0: none
  auto remove_run = [&]() LCFS_NO_TSA -> Status {
    if (first == 0) return {};
    LCFS_TRY(layer_.remove_inodes(first, last));
    first = 0;
    return {};
  };
  LeavesAhead ahead(layer_.tree_);
  for (std::size_t i = 0; i < lost_.size();) {
    if (ahead.touch(lost_[i].inode)) LCFS_TRY(remove_run());  // while its leaves are at hand
    std::size_t end = i + 1;
    while (end < lost_.size() && lost_[end].inode == lost_[i].inode) ++end;
    Inode const inode = lost_[i].inode;
    LCFS_TRY_ASSIGN(InodeInfo info, layer_.load(inode));
    if (info.nlink <= end - i) {
      if (first == 0 || last + 1 != inode) {
        LCFS_TRY(remove_run());
        first = inode;
      }
      last = inode;
    } else {
      for (std::size_t k = i; k < end; ++k) {
        auto match = [&](Key const& key, Bytes value) -> Result<bool> {
          LCFS_TRY_ASSIGN(auto const p, parse_parent(key, value));
          return p.directory == lost_[k].directory && p.name == lost_[k].name;
        };
        Key const base{inode, kParent,
                       parent_key(store_.hash_seed, lost_[k].directory, lost_[k].name)};
        LCFS_TRY_ASSIGN(auto const back, probe(layer_.tree_, base, 1, match));
        if (!back.found) continue;
        Key const key = back.found->key;
        LCFS_TRY(layer_.tree_.erase_range(key, key, nullptr));
      }
      info.nlink -= static_cast<std::uint32_t>(end - i);
      LCFS_TRY(layer_.store(inode, info));
    }
    i = end;
    LCFS_TRY(layer_.spill_if_large());
  }
  LCFS_TRY(remove_run());
  lost_.clear();
  return {};
}

Status Stacker::remove_lower(Inode directory, std::string_view name, Inode inode,
                             std::uint32_t mode) LCFS_NO_TSA {
  // The entry itself, and the directory's counters.
  Record hold;
  LCFS_TRY_ASSIGN(auto const entry, layer_.find_entry(directory, name, hold));
  if (!entry)
    return Error{Errc::kCorrupt, "directory entry vanished", 0, store_.device.name(), kNoOffset};
  Key const key = hold.key;
  hold = {};
  LCFS_TRY(layer_.tree_.erase_range(key, key, nullptr));
  LCFS_TRY_ASSIGN(InodeInfo dir, layer_.load(directory));
  --dir.size;
  if (S_ISDIR(mode)) --dir.nlink;
  LCFS_TRY(layer_.store(directory, dir));
  if (!S_ISDIR(mode)) return lose_name(directory, name, inode);
  return remove_tree(inode);
}

Status Stacker::remove_tree(Inode inode) LCFS_NO_TSA {
  // All below: a directory's records go at once, its entries' files one by one; no recursion.
  struct Entry {
    std::string name;
    Inode inode;
    std::uint8_t type;
  };
  std::vector<Inode> todo{inode};
  std::vector<Entry> entries;
  while (!todo.empty()) {
    Inode const at = todo.back();
    todo.pop_back();
    entries.clear();
    LCFS_TRY(scan(layer_.tree_, {at, kDirent, 0}, {at, kDirent, ~0ull},
                  [&](Key const& k, Bytes value) -> Result<bool> {
                    LCFS_TRY_ASSIGN(auto const d, parse_dirent(k, value));
                    entries.push_back({std::string(d.name), d.inode, d.type});
                    return true;
                  }));
    LCFS_TRY(layer_.remove_inode(at));
    for (auto const& e : entries) {
      if (e.type == dirent_type(S_IFDIR)) {
        todo.push_back(e.inode);
      } else {
        LCFS_TRY(lose_name(at, e.name, e.inode));
      }
    }
    LCFS_TRY(layer_.spill_if_large());
  }
  return {};
}

// ---------------------------------------------------------------------------------------------------------------
// Merging

void Stacker::adopt_file(std::uint32_t node) {
  Node& n = delta_.nodes[node];
  if (n.kind == Impl::kLowerLink) return;
  if (n.inode == kNone) {  // implied and new: 0755, root, time 0
    std::uint32_t const file = delta_.files.add({});
    delta_.files[file].mode = S_IFDIR | 0755;
    delta_.attach(node, file);
  }
  File& f = delta_.files[n.inode];
  f.state = File::kNew;
  f.number = base_ + n.inode;
}

void Stacker::adopt(std::uint32_t node) {
  std::vector<std::uint32_t> todo{node};
  while (!todo.empty()) {
    std::uint32_t const at = todo.back();
    todo.pop_back();
    adopt_file(at);
    for (std::uint32_t c = delta_.nodes[at].first_child; c != kNone;
         c = delta_.nodes[c].next_sibling) {
      if (!delta_.nodes[c].dead) todo.push_back(c);
    }
  }
}

Status Stacker::merge(bool has_parent) LCFS_NO_TSA {
  if (!has_parent) {
    adopt(0);
    return {};
  }
  LeavesAhead ahead(layer_.tree_);
  std::vector<std::pair<std::uint32_t, Inode>> todo{{0, layer_.root()}};
  while (!todo.empty()) {
    auto const [node, directory] = todo.back();
    todo.pop_back();
    (void)ahead.touch(directory);  // mostly in the order in which both archives named them
    LCFS_TRY(merge_directory(node, directory, todo));
    LCFS_TRY(layer_.spill_if_large());
  }
  return {};
}

// `node` names a file of the lower layers: that file gets to know it.
Status Stacker::add_back_reference(std::uint32_t node, Inode directory) LCFS_NO_TSA {
  Inode const target = inode_of(node);
  auto const name = delta_.name(delta_.nodes[node]);
  auto never = [](Key const&, Bytes) -> Result<bool> { return false; };
  Key const base{target, kParent, parent_key(store_.hash_seed, directory, name)};
  LCFS_TRY_ASSIGN(auto const slot, probe(layer_.tree_, base, 1, never));
  if (!slot.free)
    return at_entry(Error{Errc::kNoSpace, "too many names with the same hash", ENOSPC}, node);
  return layer_.tree_.put(*slot.free, as_bytes(encode_parent({directory, name})));
}

// `node` is a directory of the delta that meets `directory` of the lower layers.
Status Stacker::merge_directory(std::uint32_t node, Inode directory,
                                std::vector<std::pair<std::uint32_t, Inode>>& todo) LCFS_NO_TSA {
  LCFS_TRY_ASSIGN(InodeInfo const before, layer_.load(directory));
  InodeInfo info = before;
  Node const n = delta_.nodes[node];
  if (n.inode == kNone) {
    implied_[node] = directory;
  } else {
    File& f = delta_.files[n.inode];
    f.state = File::kMerged;
    f.number = directory;
    info.mode = f.mode;
    info.uid = f.uid;
    info.gid = f.gid;
    info.mtime = info.ctime = info.atime = {f.mtime_sec, f.mtime_nsec};
    LCFS_TRY(layer_.tree_.erase_range({directory, kXattr, 0}, {directory, kXattr, ~0ull}, nullptr));
    LCFS_TRY(put_xattrs(directory, f.xattrs, false));
  }
  for (std::uint32_t c = n.first_child; c != kNone; c = delta_.nodes[c].next_sibling) {
    Node const& child = delta_.nodes[c];
    if (child.dead) continue;
    auto const name = delta_.name(child);
    Record hold;
    LCFS_TRY_ASSIGN(auto const entry, layer_.find_entry(directory, name, hold));
    Inode const lower = entry ? entry->inode : 0;
    bool const lower_dir = entry && entry->type == dirent_type(S_IFDIR);
    if (lower_dir && is_directory(child) && !child.hides) {
      todo.emplace_back(c, lower);
      continue;
    }
    adopt(c);
    std::optional<Key> key;
    if (entry) {  // the new entry takes the old one's place
      key = hold.key;
      hold = {};
      if (lower_dir) --info.nlink;
      LCFS_TRY(lower_dir ? remove_tree(lower) : lose_name(directory, name, lower));
    } else {
      ++info.size;
      auto never = [](Key const&, Bytes) -> Result<bool> { return false; };
      LCFS_TRY_ASSIGN(
          auto const slot,
          probe(layer_.tree_, {directory, kDirent, name_key(store_.hash_seed, name)}, 1, never));
      key = slot.free;
    }
    if (!key)
      return at_entry(Error{Errc::kNoSpace, "too many names with the same hash", ENOSPC}, c);
    if (is_directory(child)) ++info.nlink;
    LCFS_TRY(layer_.tree_.put(
        *key, as_bytes(encode_dirent({inode_of(c), dirent_type(mode_of(c)), name}))));
    if (child.kind == Impl::kLowerLink) {
      LCFS_TRY(add_back_reference(c, directory));
    }
  }
  if (info == before) return {};
  return layer_.store(directory, info);
}

// ---------------------------------------------------------------------------------------------------------------
// New inodes

Status Stacker::put_xattrs(Inode inode, std::uint32_t xattrs, bool append) LCFS_NO_TSA {
  if (xattrs == kNone) return {};
  if (!append) {
    for (auto const& [name, value] : delta_.xattrs[xattrs])
      LCFS_TRY(layer_.put_xattr(inode, name, value, XattrMode::kAny));
    return {};
  }
  // Ascending keys for the append: by hash, equal hashes told apart by probe number.
  std::vector<std::pair<std::uint64_t, std::pair<std::string, std::string> const*>> sorted;
  for (auto const& x : delta_.xattrs[xattrs])
    sorted.emplace_back(xattr_key(store_.hash_seed, x.first), &x);
  std::sort(sorted.begin(), sorted.end(), [](auto const& a, auto const& b) {
    return std::tie(a.first, a.second->first) < std::tie(b.first, b.second->first);
  });
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    auto& [key, x] = sorted[i];
    if (i > 0 && key <= sorted[i - 1].first) key = sorted[i - 1].first + kXattrProbeStep;
    std::string_view value = x->second;
    XattrInfo const first{x->first, static_cast<std::uint32_t>(value.size()),
                          as_bytes(value.substr(0, kXattrChunk))};
    LCFS_TRY(layer_.tree_.append({inode, kXattr, key}, as_bytes(encode_xattr(first))));
    for (std::uint64_t chunk = 1; value.size() > kXattrChunk; ++chunk) {
      value.remove_prefix(kXattrChunk);
      LCFS_TRY(layer_.tree_.append({inode, kXattr, key + chunk},
                                   as_bytes(value.substr(0, kXattrChunk))));
    }
  }
  return {};
}

Status Stacker::append_new() LCFS_NO_TSA {
  for (std::uint32_t i = 0; i < delta_.files.size(); ++i) {
    if (delta_.files[i].state != File::kNew) continue;
    LCFS_TRY(append_file(i));
    if (i % 256 == 0) LCFS_TRY(layer_.spill_if_large());
  }
  return {};
}

Status Stacker::append_file(std::uint32_t index) LCFS_NO_TSA {
  File const& f = delta_.files[index];
  bool const is_dir = S_ISDIR(f.mode);
  std::uint32_t const node = f.first_node;
  InodeInfo info;
  info.mode = f.mode;
  info.uid = f.uid;
  info.gid = f.gid;
  info.mtime = {f.mtime_sec, f.mtime_nsec};
  info.atime = info.ctime = info.btime = info.mtime;
  if (S_ISCHR(f.mode) || S_ISBLK(f.mode)) {
    info.rdev = f.size;
  } else if (!is_dir) {
    info.size = f.size;
    info.blocks = f.blocks;
  }
  // Names: one for a directory, any number for others.
  std::vector<std::pair<std::uint64_t, std::uint32_t>> links;
  for (std::uint32_t at = node; at != kNone; at = delta_.nodes[at].next_link) {
    Node const& n = delta_.nodes[at];
    if (n.dead || at == 0) continue;
    links.emplace_back(parent_key(store_.hash_seed, inode_of(n.parent), delta_.name(n)), at);
  }
  std::sort(links.begin(), links.end());
  info.nlink = static_cast<std::uint32_t>(links.size());
  if (is_dir) {
    info.nlink = 2;
    for (std::uint32_t c = delta_.nodes[node].first_child; c != kNone;
         c = delta_.nodes[c].next_sibling) {
      Node const& child = delta_.nodes[c];
      if (child.dead) continue;
      ++info.size;
      if (is_directory(child)) ++info.nlink;
    }
  }
  Inode const inode = f.number;
  ++layer_.inodes_;
  LCFS_TRY(layer_.tree_.append({inode, kInode, 0}, encode_inode(info)));
  for (std::size_t i = 0; i < links.size(); ++i) {
    if (i > 0 && links[i].first <= links[i - 1].first) links[i].first = links[i - 1].first + 1;
    Node const& n = delta_.nodes[links[i].second];
    LCFS_TRY(layer_.tree_.append({inode, kParent, links[i].first},
                                 as_bytes(encode_parent({inode_of(n.parent), delta_.name(n)}))));
  }
  if (is_dir) LCFS_TRY(append_children(node));
  LCFS_TRY(put_xattrs(inode, f.xattrs, true));
  if (S_ISLNK(f.mode)) return layer_.tree_.append({inode, kInline, 0}, as_bytes(delta_.target(f)));
  if (S_ISREG(f.mode) && f.data != 0) return append_content(f, inode);
  return {};
}

Status Stacker::append_children(std::uint32_t node) LCFS_NO_TSA {
  std::vector<std::pair<std::uint64_t, std::uint32_t>> sorted;
  for (std::uint32_t c = delta_.nodes[node].first_child; c != kNone;
       c = delta_.nodes[c].next_sibling) {
    if (!delta_.nodes[c].dead)
      sorted.emplace_back(name_key(store_.hash_seed, delta_.name(delta_.nodes[c])), c);
  }
  std::sort(sorted.begin(), sorted.end());
  Inode const directory = inode_of(node);
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    auto& [key, c] = sorted[i];
    if (i > 0 && key <= sorted[i - 1].first) key = sorted[i - 1].first + 1;
    auto const name = delta_.name(delta_.nodes[c]);
    LCFS_TRY(
        layer_.tree_.append({directory, kDirent, key},
                            as_bytes(encode_dirent({inode_of(c), dirent_type(mode_of(c)), name}))));
    // A name in a new directory for a file of the lower layers.
    if (delta_.nodes[c].kind == Impl::kLowerLink) LCFS_TRY(add_back_reference(c, directory));
  }
  return {};
}

Status Stacker::append_content(File const& f, Inode inode) LCFS_NO_TSA {
  std::uint64_t at = f.data - 1;
  auto read = [&](void* into, std::size_t size) -> Status {
    LCFS_TRY(log_.read(at, {static_cast<std::byte*>(into), size}));
    at += size;
    return {};
  };
  std::byte tag{};
  LCFS_TRY(read(&tag, 1));
  if (tag == kInlineContent) {
    std::uint32_t size = 0;
    LCFS_TRY(read(&size, sizeof size));
    std::array<std::byte, kInlineMax> data{};
    if (size > data.size()) return Error{Errc::kCorrupt, "content log: inline data too long"};
    LCFS_TRY(read(data.data(), size));
    return layer_.tree_.append({inode, kInline, 0}, std::span(data).first(size));
  }
  std::vector<std::uint32_t> sums;
  std::vector<le32> words;
  std::vector<std::byte> record;
  for (;;) {
    PlacedExtent e;
    LCFS_TRY(read(&e, sizeof e));
    if (e.count == 0) break;
    if (e.count > kMaxExtentBlocks) return Error{Errc::kCorrupt, "content log: extent too long"};
    sums.resize(e.count);
    LCFS_TRY(read(sums.data(), e.count * sizeof(std::uint32_t)));
    words.clear();
    for (std::uint32_t const sum : sums) words.emplace_back(sum);
    encode_extent({e.block, layer_.id(), e.count, words}, record);
    LCFS_TRY(layer_.tree_.append({inode, kExtent, e.file_offset}, record));
    layer_.used_blocks_ += e.count;
    if (!kept_.empty() && kept_.back().end() == e.block) {
      kept_.back().count += e.count;
    } else {
      kept_.push_back({e.block, e.count});
    }
  }
  return {};
}

}  // namespace lcfs
