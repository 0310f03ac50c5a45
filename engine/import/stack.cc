// SPDX-License-Identifier: Apache-2.0
#include "engine/import/stack.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace lcfs {

namespace {

using Impl = Delta::Impl;

Error too_many_names() { return Error::no_space("too many names with the same hash"); }
Error nothing_to_link(std::string_view target) {
  return Error::invalid(fmt::format("hard link to nothing: '{}'", target));
}

// Records with equal hashes stand side by side: gives each a key of its own.  Sorted.
void tell_apart(std::vector<std::pair<std::uint64_t, std::uint32_t>>& keys) {
  for (std::size_t i = 1; i < keys.size(); ++i) {
    if (keys[i].first <= keys[i - 1].first) keys[i].first = keys[i - 1].first + 1;
  }
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

Status Stacker::run(bool has_parent) {
  tree_.set_generation(store_.dirty.generation());
  lower_files_.resize(delta_.lower_links.size());
  if (has_parent) {
    LCFS_TRY(link_lower_files());
    LCFS_TRY(apply_whiteouts());
  } else if (!delta_.lower_links.empty()) {
    for (std::uint32_t i = 0; i < delta_.nodes.size(); ++i) {
      Node const& n = delta_.nodes[i];
      if (n.kind == Impl::kLowerLink && !n.dead) {
        return at_entry(nothing_to_link(delta_.lower_links[n.inode]), i);
      }
    }
  }
  LCFS_TRY(merge(has_parent));
  LCFS_TRY(settle_lost());
  LCFS_TRY(append_new());
  tree_.count_nodes();
  return store_.writeback.nodes(tree_.seal());
}

Status Stacker::spill_if_large() {
  if (!tree_.dirty_beyond(store_.options.dirty_nodes)) return {};
  return store_.writeback.nodes(tree_.seal());
}

std::vector<Extent> Stacker::take_kept() {
  normalize(kept_);
  return std::move(kept_);
}

// The lower layers --------------------------------------------------------------------------------

Result<std::optional<Stacker::LowerFile>> Stacker::find_lower(Inode directory,
                                                              std::string_view name) {
  LCFS_TRY_ASSIGN(auto const entry, tree_.find_entry(directory, name));
  if (!entry) return std::optional<LowerFile>{};
  return std::optional<LowerFile>({entry->inode, mode_of_type(entry->type)});
}

Result<std::optional<Stacker::LowerFile>> Stacker::resolve(std::string_view path, Inode* directory,
                                                           std::string_view* name) {
  LCFS_TRY_ASSIGN(auto const parts, split_path(path));
  LowerFile at{tree_.root_inode(), S_IFDIR};
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

// Counts the links first, so that a whiteout of the target's old name does not remove the file.
Status Stacker::link_lower_files() {
  for (std::uint32_t i = 0; i < delta_.nodes.size(); ++i) {
    Node const& n = delta_.nodes[i];
    if (n.kind != Impl::kLowerLink || n.dead) continue;
    std::string const& target = delta_.lower_links[n.inode];
    Inode directory = 0;
    std::string_view name;
    LCFS_TRY_ASSIGN(auto const found, resolve(target, &directory, &name));
    if (!found) return at_entry(nothing_to_link(target), i);
    if (S_ISDIR(found->mode)) {
      return at_entry(Error::invalid(fmt::format("hard link to a directory: '{}'", target)), i);
    }
    lower_files_[n.inode] = *found;
    LCFS_TRY_ASSIGN(InodeInfo info, tree_.get_inode(found->inode));
    ++info.nlink;
    LCFS_TRY(tree_.put_inode(found->inode, info));
  }
  return {};
}

Status Stacker::apply_whiteouts() {
  for (auto const& path : delta_.whiteouts) {
    Inode directory = 0;
    std::string_view name;
    LCFS_TRY_ASSIGN(auto const found, resolve(path, &directory, &name));
    if (!found || directory == 0) continue;  // hides nothing; some tools write such whiteouts
    LCFS_TRY(remove_lower(directory, name, found->inode, found->mode));
  }
  for (auto const& path : delta_.opaques) {
    Inode directory = 0;
    std::string_view name;
    LCFS_TRY_ASSIGN(auto const found, resolve(path, &directory, &name));
    if (!found || !S_ISDIR(found->mode)) continue;
    std::vector<std::pair<std::string, LowerFile>> entries;
    LCFS_TRY(tree_.each_entry(found->inode, [&](Key const&, DirentInfo const& d) {
      entries.emplace_back(d.name, LowerFile{d.inode, mode_of_type(d.type)});
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

// Removes files that lost their last name, neighbours in one sweep over the tree.  The others lose
// a back reference.
Status Stacker::settle_lost() {
  std::sort(lost_.begin(), lost_.end(),
            [](Lost const& a, Lost const& b) { return a.inode < b.inode; });
  Inode first = 0, last = 0;  // files to remove, without a gap; 0: none
  auto remove_run = [&]() -> Status {
    if (first == 0) return {};
    LCFS_TRY(tree_.remove_inodes(first, last));
    first = 0;
    return {};
  };
  LeavesAhead ahead(tree_.tree());
  for (std::size_t i = 0; i < lost_.size();) {
    if (ahead.touch(lost_[i].inode)) LCFS_TRY(remove_run());  // while its leaves are at hand
    std::size_t end = i + 1;
    while (end < lost_.size() && lost_[end].inode == lost_[i].inode) ++end;
    Inode const inode = lost_[i].inode;
    LCFS_TRY_ASSIGN(InodeInfo info, tree_.get_inode(inode));
    if (info.nlink <= end - i) {
      if (first == 0 || last + 1 != inode) {
        LCFS_TRY(remove_run());
        first = inode;
      }
      last = inode;
    } else {
      for (std::size_t k = i; k < end; ++k) {
        LCFS_TRY(tree_.erase_back_reference(lost_[k].directory, lost_[k].name, inode));
      }
      info.nlink -= static_cast<std::uint32_t>(end - i);
      LCFS_TRY(tree_.put_inode(inode, info));
    }
    i = end;
    LCFS_TRY(spill_if_large());
  }
  LCFS_TRY(remove_run());
  lost_.clear();
  return {};
}

Status Stacker::remove_lower(Inode directory, std::string_view name, Inode inode,
                             std::uint32_t mode) {
  // The entry itself, and the directory's counters.
  LCFS_TRY_ASSIGN(auto const entry, tree_.find_entry(directory, name));
  if (!entry) return tree_.entry_vanished();
  LCFS_TRY(tree_.erase_entry(entry->key));
  LCFS_TRY_ASSIGN(InodeInfo dir, tree_.get_inode(directory));
  --dir.size;
  if (S_ISDIR(mode)) --dir.nlink;
  LCFS_TRY(tree_.put_inode(directory, dir));
  if (!S_ISDIR(mode)) return lose_name(directory, name, inode);
  return remove_tree(inode);
}

Status Stacker::remove_tree(Inode inode) {
  // Removes a directory's records at once, the files it names one by one.  Does not recurse.
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
    LCFS_TRY(tree_.each_entry(at, [&](Key const&, DirentInfo const& d) {
      entries.push_back({std::string(d.name), d.inode, d.type});
    }));
    LCFS_TRY(tree_.remove_inodes(at, at));
    for (auto const& e : entries) {
      if (e.type == entry_type(S_IFDIR)) {
        todo.push_back(e.inode);
      } else {
        LCFS_TRY(lose_name(at, e.name, e.inode));
      }
    }
    LCFS_TRY(spill_if_large());
  }
  return {};
}

// Merging -----------------------------------------------------------------------------------------

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

Status Stacker::merge(bool has_parent) {
  if (!has_parent) {
    adopt(0);
    return {};
  }
  LeavesAhead ahead(tree_.tree());
  std::vector<std::pair<std::uint32_t, Inode>> todo{{0, tree_.root_inode()}};
  while (!todo.empty()) {
    auto const [node, directory] = todo.back();
    todo.pop_back();
    (void)ahead.touch(directory);  // mostly in the order in which both archives named them
    LCFS_TRY(merge_directory(node, directory, todo));
    LCFS_TRY(spill_if_large());
  }
  return {};
}

// `node` names a file of the lower layers: adds the back reference to that file.
Status Stacker::add_back_reference(std::uint32_t node, Inode directory) {
  Inode const target = inode_of(node);
  auto const name = delta_.name(delta_.nodes[node]);
  LCFS_TRY_ASSIGN(auto const key, tree_.free_back_reference(target, directory, name));
  if (!key) return at_entry(too_many_names(), node);
  return tree_.put_back_reference(*key, directory, name);
}

// Merges `node`, a directory of the delta, into `directory` of the lower layers.
Status Stacker::merge_directory(std::uint32_t node, Inode directory,
                                std::vector<std::pair<std::uint32_t, Inode>>& todo) {
  LCFS_TRY_ASSIGN(InodeInfo const before, tree_.get_inode(directory));
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
    LCFS_TRY(tree_.erase_xattrs(directory));
    if (f.xattrs != kNone) {
      for (auto const& [name, value] : delta_.xattrs[f.xattrs])
        LCFS_TRY(tree_.put_xattr(directory, name, value, XattrMode::kAny));
    }
  }
  for (std::uint32_t c = n.first_child; c != kNone; c = delta_.nodes[c].next_sibling) {
    Node const& child = delta_.nodes[c];
    if (child.dead) continue;
    auto const name = delta_.name(child);
    LCFS_TRY_ASSIGN(auto const entry, tree_.find_entry(directory, name));
    Inode const lower = entry ? entry->inode : 0;
    bool const lower_dir = entry && entry->type == entry_type(S_IFDIR);
    if (lower_dir && is_directory(child) && !child.hides) {
      todo.emplace_back(c, lower);
      continue;
    }
    adopt(c);
    std::optional<Key> key;
    if (entry) {  // the new entry takes the old one's place
      key = entry->key;
      if (lower_dir) --info.nlink;
      LCFS_TRY(lower_dir ? remove_tree(lower) : lose_name(directory, name, lower));
    } else {
      ++info.size;
      LCFS_TRY_ASSIGN(key, tree_.free_entry(directory, name));
    }
    if (!key) return at_entry(too_many_names(), c);
    if (is_directory(child)) ++info.nlink;
    LCFS_TRY(tree_.put_entry(*key, inode_of(c), mode_of(c), name));
    if (child.kind == Impl::kLowerLink) {
      LCFS_TRY(add_back_reference(c, directory));
    }
  }
  if (info == before) return {};
  return tree_.put_inode(directory, info);
}

// New inodes --------------------------------------------------------------------------------------

Status Stacker::append_new() {
  for (std::uint32_t i = 0; i < delta_.files.size(); ++i) {
    if (delta_.files[i].state != File::kNew) continue;
    LCFS_TRY(append_file(i));
    if (i % 256 == 0) LCFS_TRY(spill_if_large());
  }
  return {};
}

// A file's attributes, except its link count and what a directory's entries add up to.
InodeInfo Stacker::describe(File const& f) const {
  InodeInfo info;
  info.mode = f.mode;
  info.uid = f.uid;
  info.gid = f.gid;
  info.mtime = {f.mtime_sec, f.mtime_nsec};
  info.atime = info.ctime = info.btime = info.mtime;
  if (S_ISCHR(f.mode) || S_ISBLK(f.mode)) {
    info.rdev = f.size;
  } else if (!S_ISDIR(f.mode)) {
    info.size = f.size;
    info.blocks = f.blocks;
  }
  return info;
}

Status Stacker::append_file(std::uint32_t index) {
  File const& f = delta_.files[index];
  bool const is_dir = S_ISDIR(f.mode);
  std::uint32_t const node = f.first_node;
  InodeInfo info = describe(f);
  // Names: one for a directory, any number for others.
  std::vector<std::pair<std::uint64_t, std::uint32_t>> names;
  for (std::uint32_t at = node; at != kNone; at = delta_.nodes[at].next_link) {
    Node const& n = delta_.nodes[at];
    if (n.dead || at == 0) continue;
    names.emplace_back(tree_.back_reference_hash(inode_of(n.parent), delta_.name(n)), at);
  }
  std::sort(names.begin(), names.end());
  info.nlink = static_cast<std::uint32_t>(names.size());
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
  LCFS_TRY(tree_.append_inode(inode, info));
  tell_apart(names);
  for (auto const& [key, at] : names) {
    Node const& n = delta_.nodes[at];
    LCFS_TRY(tree_.append_back_reference(inode, key, inode_of(n.parent), delta_.name(n)));
  }
  if (is_dir) LCFS_TRY(append_children(node));
  if (f.xattrs != kNone) LCFS_TRY(tree_.append_xattrs(inode, delta_.xattrs[f.xattrs]));
  if (S_ISLNK(f.mode)) return tree_.append_inline(inode, as_bytes(delta_.target(f)));
  if (S_ISREG(f.mode) && f.data != 0) return append_content(f, inode);
  return {};
}

Status Stacker::append_children(std::uint32_t node) {
  std::vector<std::pair<std::uint64_t, std::uint32_t>> sorted;
  for (std::uint32_t c = delta_.nodes[node].first_child; c != kNone;
       c = delta_.nodes[c].next_sibling) {
    if (!delta_.nodes[c].dead)
      sorted.emplace_back(tree_.entry_hash(delta_.name(delta_.nodes[c])), c);
  }
  std::sort(sorted.begin(), sorted.end());
  tell_apart(sorted);
  Inode const directory = inode_of(node);
  for (auto const& [key, c] : sorted) {
    auto const name = delta_.name(delta_.nodes[c]);
    LCFS_TRY(tree_.append_entry(directory, key, inode_of(c), mode_of(c), name));
    // A name in a new directory for a file of the lower layers.
    if (delta_.nodes[c].kind == Impl::kLowerLink) LCFS_TRY(add_back_reference(c, directory));
  }
  return {};
}

Status Stacker::append_content(File const& f, Inode inode) {
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
    if (size > data.size()) return Error::corrupt("content log: inline data too long");
    LCFS_TRY(read(data.data(), size));
    return tree_.append_inline(inode, std::span(data).first(size));
  }
  std::vector<std::uint32_t> sums;
  for (;;) {
    PlacedExtent e;
    LCFS_TRY(read(&e, sizeof e));
    if (e.count == 0) break;
    if (e.count > kMaxExtentBlocks) return Error::corrupt("content log: extent too long");
    sums.resize(e.count);
    LCFS_TRY(read(sums.data(), e.count * sizeof(std::uint32_t)));
    LCFS_TRY(tree_.append_extent(inode, e.file_offset, e.block, sums));
    if (!kept_.empty() && kept_.back().end() == e.block) {
      kept_.back().count += e.count;
    } else {
      kept_.push_back({e.block, e.count});
    }
  }
  return {};
}

}  // namespace lcfs
