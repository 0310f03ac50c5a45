// SPDX-License-Identifier: Apache-2.0
#include "fsck/layer_delta.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <tuple>

#include "format/hash.h"

namespace lcfs::fsck {
namespace {

constexpr std::uint64_t kHashBits = ~(kProbes - 1);

Key next_key(Key k) {
  if (++k.offset == 0 && ++k.kind == 0) ++k.inode;
  return k;
}

bool same(WalkedRecord const& a, WalkedRecord const& b) {
  return a.value.size() == b.value.size() &&
         (a.value.empty() || std::memcmp(a.value.data(), b.value.data(), a.value.size()) == 0);
}

}  // namespace

bool LayerDelta::sound() {
  if (layer_.root_inode != parent_.root_inode || !scan_.complete()) return false;
  if (!compare_nodes()) return false;
  for (auto const& c : changes_) {
    if (!take(c)) return false;
  }
  if (!links_cancel_out()) return false;
  orphans_ = find_first(source_, layer_.root, {0, kOrphan, 0}, {0, kOrphan + 1, 0}).has_value();
  std::sort(touched_.begin(), touched_.end());
  touched_.erase(std::unique(touched_.begin(), touched_.end()), touched_.end());
  std::sort(named_.begin(), named_.end(),
            [](Named const& a, Named const& b) { return a.inode < b.inode; });
  std::size_t n = 0;
  for (std::uint64_t const inode : touched_) {
    auto const now = inode_in(now_, inode), before = inode_in(before_, inode);
    for (; n < named_.size() && named_[n].inode == inode; ++n) {
      if (!now || named_[n].type != (now->mode & S_IFMT) >> 12) return false;
    }
    if (!check_inode(inode, now, before) || !check_links(inode, now, before)) return false;
  }
  for (std::uint64_t const directory : moved_) {
    if (!check_reach(directory)) return false;
  }
  if (layer_.skeleton_blocks != 0)
    use_skeleton(source_, sb_.store_root, sb_.total_blocks, layer_.id, own_, nullptr);
  bool twice = false;
  find_overlaps(own_, [&](Use const&, Use const&) { twice = true; });
  return !twice && compare_runs(layer_.id, own_, scan_.runs_of(*scan_.layer(layer_.id))).empty();
}

void LayerDelta::drop_nodes() {
  new_data_ = {};
  changes_ = {};
  held_ = {};
  now_.leaf = before_.leaf = nullptr;
}

// Nodes -------------------------------------------------------------------------------------------

std::optional<unsigned> LayerDelta::enter_root(LayerInfo const& info, Side& side) {
  auto const node = source_.get(info.root, NodeSource::kAnyLevel);
  if (!node) return std::nullopt;
  side.next.push_back({info.root, Key{}, kMaxKey});
  return NodeReader((*node)->data()).header().level;
}

bool LayerDelta::compare_nodes() {
  Side ours, theirs;
  auto const our_top = enter_root(layer_, ours), their_top = enter_root(parent_, theirs);
  if (!our_top || !their_top) return false;
  for (unsigned level = std::max(*our_top, *their_top);; --level) {
    // A side whose root is lower waits for its level.
    ours.level = level <= *our_top ? std::exchange(ours.next, {}) : std::vector<Pointer>{};
    theirs.level = level <= *their_top ? std::exchange(theirs.next, {}) : std::vector<Pointer>{};
    std::unordered_map<std::uint64_t, Pointer const*> in_parent;
    for (auto const& p : theirs.level) in_parent.emplace(p.ptr.block.get(), &p);
    std::unordered_set<std::uint64_t> shared;
    std::vector<Pointer> fresh, gone;
    for (auto const& p : ours.level) {
      auto const it = in_parent.find(p.ptr.block.get());
      if (it == in_parent.end() || !(it->second->ptr == p.ptr)) {
        fresh.push_back(p);
        continue;
      }
      if (!shared.insert(p.ptr.block.get()).second) return false;  // found twice
      bool const narrower =
          it->second->low < p.low ||
          (p.high != kMaxKey && (it->second->high == kMaxKey || p.high < it->second->high));
      if (narrower && !within(p, level, p.low, p.high)) return false;
    }
    for (auto const& p : theirs.level) {
      if (!shared.contains(p.ptr.block.get())) gone.push_back(p);
    }
    if (!open_all(ours, fresh, level, true) || !open_all(theirs, gone, level, false)) return false;
    if (level == 0) break;
  }
  used_blocks_ = static_cast<std::int64_t>(ours.nodes * kNodeBlocks) -
                 static_cast<std::int64_t>(theirs.nodes * kNodeBlocks);
  compare_records(ours, theirs);
  held_ = std::move(ours.leaves);
  held_.insert(held_.end(), theirs.leaves.begin(), theirs.leaves.end());
  return true;
}

bool LayerDelta::open_all(Side& side, std::span<Pointer const> pointers, unsigned level,
                          bool ours) {
  std::vector<NodePtr> ptrs;
  ptrs.reserve(pointers.size());
  for (auto const& p : pointers) ptrs.push_back(p.ptr);
  std::size_t ahead = 0;
  for (std::size_t i = 0; i < pointers.size(); ++i) {
    if (i == ahead) ahead += source_.ahead(std::span{ptrs}.subspan(i), level);
    if (!open(side, pointers[i], level, ours)) return false;
  }
  return true;
}

// A node that the other tree does not have at this place: compares its children or its records.
bool LayerDelta::open(Side& side, Pointer const& p, unsigned level, bool ours) {
  auto const node = source_.get(p.ptr, level);
  if (!node) return false;
  NodeReader const reader((*node)->data());
  if (ours) {
    // Everything that the parent does not have must be the layer's own.
    if (reader.header().owner.get() != layer_.id) return false;
    std::uint32_t const n = reader.count(), first = reader.leaf() ? 0 : 1;
    if (first < n && reader.key(first) < p.low) return false;
    if (n > 0 && p.high != kMaxKey && !(reader.key(n - 1) < p.high)) return false;
    own_.push_back({p.ptr.block.get(), kNodeBlocks, layer_.id, 0});
  }
  ++side.nodes;
  if (reader.leaf()) {
    side.leaves.push_back(*node);
    return true;
  }
  for (std::uint32_t i = 0; i < reader.count(); ++i) {
    side.next.push_back({reader.entry(i).child, i == 0 ? p.low : reader.key(i),
                         i + 1 < reader.count() ? reader.key(i + 1) : p.high});
  }
  return true;
}

// The outermost keys of a shared subtree lie in [low, high), on every level.
bool LayerDelta::within(Pointer const& p, unsigned level, Key const& low, Key const& high) {
  for (bool const right : {false, true}) {
    NodePtr ptr = p.ptr;
    for (unsigned l = level;; --l) {
      auto const node = source_.get(ptr, l);
      if (!node) return false;
      NodeReader const reader((*node)->data());
      std::uint32_t const n = reader.count(), first = reader.leaf() ? 0 : 1;
      if (n == 0) return reader.leaf();
      if (first < n && reader.key(first) < low) return false;
      if (high != kMaxKey && !(reader.key(n - 1) < high)) return false;
      if (reader.leaf()) break;
      ptr = reader.entry(right ? n - 1 : 0).child;
    }
  }
  return true;
}

void LayerDelta::compare_records(Side const& ours, Side const& theirs) {
  struct At {
    std::vector<NodeSource::Node> const& leaves;
    std::size_t leaf = 0;
    std::uint32_t index = 0;
    bool valid() {
      while (leaf < leaves.size() && index >= NodeReader(leaves[leaf]->data()).count()) {
        ++leaf;
        index = 0;
      }
      return leaf < leaves.size();
    }
    [[nodiscard]] WalkedRecord record() const {
      NodeReader const node(leaves[leaf]->data());
      WalkedRecord r;
      r.key = node.key(index);
      r.value = node.value(index);
      r.owner = node.header().owner.get();
      return r;
    }
  };
  At a{ours.leaves}, b{theirs.leaves};
  while (a.valid() || b.valid()) {
    if (b.valid() && (!a.valid() || b.record().key < a.record().key)) {
      changes_.push_back({b.record(), false});
      ++b.index;
      continue;
    }
    auto const added = a.record();
    if (b.valid() && b.record().key == added.key) {
      auto const removed = b.record();
      ++a.index;
      ++b.index;
      if (same(added, removed)) continue;
      changes_.push_back({removed, false});
      changes_.push_back({added, true});
      continue;
    }
    changes_.push_back({added, true});
    ++a.index;
  }
}

// Records -----------------------------------------------------------------------------------------

bool LayerDelta::take(Change const& c) {
  auto const& r = c.record;
  int const sign = c.added ? 1 : -1;
  if (r.key.inode == 0) {
    if (r.key.kind != kOrphan || r.key.offset == 0 || !r.value.empty()) return false;
    touched_.push_back(r.key.offset);
    return true;
  }
  touched_.push_back(r.key.inode);
  switch (r.key.kind) {
    case kInode:
      inodes_ += sign;
      if (c.added) last_inode_ = std::max(last_inode_, r.key.inode);
      return true;
    case kParent: {
      auto const p = parse_parent(r.key, r.value);
      if (!p) return false;
      add_link(r.key.inode, p->directory, p->name, -sign);
      touched_.push_back(p->directory);
      return true;
    }
    case kDirent: {
      auto const d = parse_dirent(r.key, r.value);
      if (!d) return false;
      add_link(d->inode, r.key.inode, d->name, sign);
      touched_.push_back(d->inode);
      auto& of = counts_[r.key.inode];
      of.entries += sign;
      if (d->type == S_IFDIR >> 12) {
        of.subdirs += sign;
        if (c.added) moved_.push_back(d->inode);
      }
      counts_[d->inode].named += sign;
      if (!c.added) return true;
      named_.push_back({d->inode, d->type});
      return check_entry_group(r, d->name);
    }
    case kExtent: {
      auto const e = parse_extent(r.key, r.value, sb_.total_blocks);
      return e && take_extent(c, *e);
    }
    case kXattr:
    case kInline: return true;  // with their inode
    default: return false;
  }
}

bool LayerDelta::take_extent(Change const& c, ExtentInfo const& extent) {
  auto const& r = c.record;
  used_blocks_ += c.added ? std::int64_t{extent.count} : -std::int64_t{extent.count};
  if (!c.added) return true;
  if (extent.owner == layer_.id) {
    own_.push_back({extent.block, extent.count, extent.owner, r.key.inode});
    new_data_.push_back(r);
    return true;
  }
  // Inherited: a part of what the parent has at the same place, so owner, runs and data are sound.
  auto const found = find_last(source_, parent_.root, r.key);
  if (!found || found->record.key.inode != r.key.inode || found->record.key.kind != kExtent)
    return false;
  auto const theirs = parse_extent(found->record.key, found->record.value, sb_.total_blocks);
  if (!theirs || theirs->owner != extent.owner) return false;
  auto const skip = (r.key.offset - found->record.key.offset) / kBlockSize;
  if (skip >= theirs->count || extent.count > theirs->count - skip ||
      theirs->block + skip != extent.block)
    return false;
  auto const sums = theirs->checksums.subspan(skip, extent.count);
  return std::memcmp(sums.data(), extent.checksums.data(), sums.size_bytes()) == 0;
}

void LayerDelta::add_link(std::uint64_t child, std::uint64_t directory, std::string_view name,
                          int sign) {
  links_.push_back({child, directory,
                    siphash24(sb_.hash_seed, std::as_bytes(std::span{name.data(), name.size()})),
                    sign});
}

bool LayerDelta::links_cancel_out() {
  std::sort(links_.begin(), links_.end(), [](Link const& a, Link const& b) {
    return std::tie(a.child, a.directory, a.name) < std::tie(b.child, b.directory, b.name);
  });
  for (std::size_t i = 0; i < links_.size();) {
    int balance = 0;
    for (auto const& first = links_[i]; i < links_.size() && links_[i].same(first); ++i)
      balance += links_[i].sign;
    if (balance != 0) return false;
  }
  return true;
}

std::optional<WalkedRecord> LayerDelta::at(Place& place, Key const& key) {
  if (place.leaf != nullptr) {
    NodeReader const leaf(place.leaf->data());
    auto const n = leaf.count();
    if (n != 0 && !(key < leaf.key(0)) && !(leaf.key(n - 1) < key)) {
      auto const i = leaf.lower_bound(key);
      return leaf.key(i) == key ? std::optional(record_of(leaf, i)) : std::nullopt;
    }
  }
  auto const found = find_first(source_, place.root, key, next_key(key));
  if (!found) return std::nullopt;
  place.leaf = found->node;
  return found->record;
}

LayerDelta::MaybeInode LayerDelta::inode_in(Place& place, std::uint64_t inode) {
  auto const found = at(place, {inode, kInode, 0});
  if (!found) return std::nullopt;
  auto info = parse_inode(found->key, found->value);
  return info ? std::optional(*info) : std::nullopt;
}

template <class Take>
void LayerDelta::range(Key from, Key const& end, Take const& take) {
  for (;;) {
    // Most ranges lie inside the leaf of the last answer.
    NodeReader leaf(now_.leaf == nullptr ? nullptr : now_.leaf->data());
    std::uint32_t i = 0;
    if (now_.leaf != nullptr && leaf.count() != 0 && !(from < leaf.key(0)) &&
        !(leaf.key(leaf.count() - 1) < from)) {
      i = leaf.lower_bound(from);
    } else {
      auto const found = find_first(source_, layer_.root, from, end);
      if (!found) return;
      now_.leaf = found->node;
      leaf = NodeReader(now_.leaf->data());
      i = leaf.lower_bound(found->record.key);
    }
    auto const node = now_.leaf;  // `take` may ask for another one
    for (; i < leaf.count() && leaf.key(i) < end; ++i) take(record_of(leaf, i));
    if (i < leaf.count()) return;
    from = next_key(leaf.key(i - 1));
  }
}

// An added entry has the key of its name, and no other entry with the same hash has that name.
bool LayerDelta::check_entry_group(WalkedRecord const& r, std::string_view name) {
  std::uint64_t const base = r.key.offset & kHashBits;
  if (base != name_key(sb_.hash_seed, name)) return false;
  int found = 0;
  range({r.key.inode, kDirent, base}, {r.key.inode, kDirent, base + kProbes},
        [&](WalkedRecord const& other) {
          if (auto const d = parse_dirent(other.key, other.value); !d || d->name == name) ++found;
        });
  return found == 1;
}

// Checks all records of an inode as a whole walk would.
bool LayerDelta::check_inode(std::uint64_t inode, MaybeInode const& now, MaybeInode const& before) {
  if (now && before && (now->mode & S_IFMT) != (before->mode & S_IFMT)) return false;
  bool good = true;
  Links links(sb_.hash_seed);  // relations between inodes are checked here as differences
  InodeCheck check(
      sb_.hash_seed, sb_.total_blocks, links,
      {[&](Code, Severity, std::uint64_t, std::uint64_t, std::string const&) { good = false; },
       [](WalkedRecord const&, ExtentInfo const&) {}});
  // The entries of a directory that the parent also has are only counted: there may be many.
  bool const known_directory = now && before && S_ISDIR(now->mode) && before->nlink != 0;
  if (!known_directory) {
    range({inode, 0, 0}, {inode + 1, 0, 0}, [&](WalkedRecord const& r) { check.take(r); });
  } else {
    range({inode, 0, 0}, {inode, kDirent, 0}, [&](WalkedRecord const& r) { check.take(r); });
    auto const it = counts_.find(inode);
    Counts const change = it == counts_.end() ? Counts{} : it->second;
    check.skip_entries(
        before->size + static_cast<std::uint64_t>(change.entries),
        std::uint64_t{before->nlink} - 2 + static_cast<std::uint64_t>(change.subdirs));
    range({inode, kDirent + 1, 0}, {inode + 1, 0, 0},
          [&](WalkedRecord const& r) { check.take(r); });
  }
  check.finish();
  return good;
}

bool LayerDelta::check_links(std::uint64_t inode, MaybeInode const& now, MaybeInode const& before) {
  // The number of entries that should name it, according to its record.
  auto const due = [&](MaybeInode const& info) -> std::int64_t {
    if (!info || inode == layer_.root_inode) return 0;
    return S_ISDIR(info->mode) ? (info->nlink == 0 ? 0 : 1) : std::int64_t{info->nlink};
  };
  auto const it = counts_.find(inode);
  if (due(now) != due(before) + (it == counts_.end() ? 0 : it->second.named)) return false;
  bool const orphan =
      orphans_ &&
      find_first(source_, layer_.root, {0, kOrphan, inode}, {0, kOrphan, inode + 1}).has_value();
  if (inode == layer_.root_inode) return now && S_ISDIR(now->mode) && now->nlink != 0 && !orphan;
  if (orphan != (now && now->nlink == 0)) return false;
  return !orphan || !S_ISDIR(now->mode) || now->size == 0;
}

bool LayerDelta::check_reach(std::uint64_t directory) {
  std::unordered_set<std::uint64_t> path;
  for (std::uint64_t d = directory; d != layer_.root_inode && !reached_.contains(d);) {
    if (!path.insert(d).second) return false;  // inside itself
    auto const found = find_first(source_, layer_.root, {d, kParent, 0}, {d, kParent + 1, 0});
    if (!found) return false;
    auto const parent = parse_parent(found->record.key, found->record.value);
    if (!parent) return false;
    d = parent->directory;
  }
  reached_.insert(path.begin(), path.end());
  return true;
}

}  // namespace lcfs::fsck
