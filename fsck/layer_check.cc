// SPDX-License-Identifier: Apache-2.0
#include "fsck/layer_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "fsck/paths.h"
#include "fsck/tree_walk.h"

namespace lcfs::fsck {

LayerCheck::LayerCheck(LayerContext const& context, LayerEntry const& layer)
    : c_(context),
      layer_(layer),
      links_(context.superblock.hash_seed),
      inodes_(context.superblock.hash_seed, context.superblock.total_blocks, links_,
              {[this](Code code, Severity severity, std::uint64_t inode, std::uint64_t at,
                      std::string text) { say(code, severity, inode, at, std::move(text)); },
               [this](WalkedRecord const& r, ExtentInfo const& e) { take_extent(r, e); }}),
      data_(context.device, context.threads, [this](BadBlock const& b) { bad_block(b); }) {}

std::string LayerCheck::path(std::uint64_t inode) {
  return inode == 0 || inode == kSkeletonUse
             ? std::string{}
             : path_of(c_.source, layer_.info.root, layer_.info.root_inode, inode);
}

void LayerCheck::say(Code code, Severity severity, std::uint64_t inode, std::uint64_t at,
                     std::string text) {
  if (severity == Severity::kError) result_.tree_sound = false;
  say_aside(code, severity, inode, at, std::move(text));
}

void LayerCheck::say_aside(Code code, Severity severity, std::uint64_t inode, std::uint64_t at,
                           std::string text) {
  said_ = true;
  if (code == Code::kRun || code == Code::kCounter || code == Code::kOwner)
    result_.derived_sound = false;
  if (at != kNoOffset && c_.findings.known(code, at)) return;  // before the costly path lookup
  Finding f;
  f.code = code;
  f.severity = severity;
  f.layer = layer_.info.id;
  f.layer_name = layer_.info.name;
  f.path = path(inode);
  f.inode = inode == kSkeletonUse ? 0 : inode;
  f.offset = at;
  f.text = std::move(text);
  c_.findings.add(std::move(f));
}

LayerResult LayerCheck::finish() {
  data_.flush();
  result_.sound = !said_;
  return result_;
}

bool LayerCheck::take_delta(LayerResult const& parent, LayerDelta& delta) {
  if (!parent.sound || !parent.complete)
    return false;  // its results hold only if the parent is sound
  auto const sum = [](std::uint64_t a, std::int64_t b) {
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(a) + b);
  };
  result_.complete = true;
  result_.inodes = sum(parent.inodes, delta.inodes());
  result_.used_blocks = sum(parent.used_blocks, delta.used_blocks());
  result_.last_inode = std::max(parent.last_inode, delta.last_inode());
  for (auto const& u : delta.own())
    (u.inode == 0 ? result_.node_blocks : result_.data_blocks) += u.count;
  if (c_.collect) uses_ = std::move(delta.own());
  for (auto const& r : delta.new_data()) {
    auto const extent = parse_extent(r.key, r.value, c_.superblock.total_blocks);
    if (c_.data && extent) data_.add(*extent, r.key.inode, r.key.offset);
  }
  if (std::vector<Use> counted; c_.data && layer_.info.skeleton_blocks != 0)
    use_skeleton(c_.source, c_.superblock.store_root, c_.superblock.total_blocks, layer_.info.id,
                 counted, &data_);
  check_counters();
  return true;
}

LayerResult LayerCheck::run(LayerResult const* parent, bool same,
                            std::unique_ptr<LayerDelta> delta) {
  auto const* same_as_parent = same ? parent : nullptr;
  if (parent != nullptr && delta != nullptr && take_delta(*parent, *delta)) return finish();
  if (same_as_parent != nullptr) {
    result_ = *same_as_parent;
    result_.node_blocks = result_.data_blocks = 0;
  } else {
    walk();
  }
  if (!result_.complete && same_as_parent != nullptr)
    say(Code::kShared, Severity::kError, 0, kNoOffset,
        "it shares its parent's tree, which is damaged");
  if (result_.complete && same_as_parent == nullptr) check_links();
  if (layer_.info.skeleton_blocks != 0)
    use_skeleton(c_.source, c_.superblock.store_root, c_.superblock.total_blocks, layer_.info.id,
                 uses_, c_.data ? &data_ : nullptr);
  check_space();
  if (result_.complete) check_counters();
  return finish();
}

void LayerCheck::walk() {
  WalkHooks hooks;
  hooks.on_node = [this](std::uint64_t block, NodeHeader const& header,
                         std::uint64_t parent_owner) {
    return enter_node(block, header, parent_owner);
  };
  hooks.on_damage = [this](Error const& error, NodePtr const& ptr, unsigned, Key const& low,
                           Key const&) { damaged(error, ptr, low); };
  TreeWalk tree(c_.source, layer_.info.root, layer_.info.id, std::move(hooks));
  while (auto const r = tree.next()) {
    if (c_.stop != nullptr && c_.stop->load(std::memory_order_relaxed))
      return;  // the result is not used
    if (r->key.inode == 0)
      take_orphan(*r);
    else
      inodes_.take(*r);
  }
  if (!tree.complete()) inodes_.gap();  // the missing part may be the last one
  inodes_.finish();
  result_.complete = tree.complete();
  result_.inodes = inodes_.inodes();
  result_.last_inode = inodes_.last_inode();
}

bool LayerCheck::enter_node(std::uint64_t block, NodeHeader const& header,
                            std::uint64_t parent_owner) {
  auto const owner = header.owner.get();
  uses_.push_back({block, kNodeBlocks, owner, 0});
  auto const at = block * kBlockSize + offsetof(NodeHeader, owner);
  // A node was written when its owner was the newest layer of the chain, so all below it is the
  // owner's or older.
  if (!c_.scan.may_own(owner, parent_owner)) {
    say(Code::kOwner, Severity::kError, 0, at,
        fmt::format("node owned by layer {}, which is not an ancestor of layer {}", owner,
                    parent_owner));
  } else if (owner != layer_.info.id && parent_owner == layer_.info.id &&
             !c_.scan.in_runs(owner, block, kNodeBlocks)) {
    say(Code::kOwner, Severity::kError, 0, at,
        fmt::format("inherited node is not in the runs of its owner, layer {}", owner));
  }
  return true;
}

void LayerCheck::damaged(Error const& error, NodePtr const& ptr, Key const& low) {
  auto const at = error.offset != kNoOffset ? error.offset : ptr.block.get() * kBlockSize;
  auto const code = error.code == Errc::kIo ? Code::kIo : Code::kNode;
  if (c_.findings.known(code, at))
    return say(Code::kShared, Severity::kError, 0, kNoOffset,
               fmt::format("its tree includes the damage at offset {:#x}", at));
  auto text = error;
  text.offset = kNoOffset;
  say(code, Severity::kError, low.inode, at,
      fmt::format("node at block {}: {}; it held the records from ({}, {:#04x}, {:#x})",
                  ptr.block.get(), text.text(), low.inode, low.kind, low.offset));
}

void LayerCheck::take_orphan(WalkedRecord const& r) {
  if (r.key.kind != kOrphan || r.key.offset == 0 || !r.value.empty())
    return say(
        Code::kRecord, Severity::kError, 0, r.at,
        fmt::format("record of kind {:#04x}, {} bytes, for inode 0", r.key.kind, r.value.size()));
  links_.add_orphan(r.key.offset, r.at);
}

void LayerCheck::take_extent(WalkedRecord const& r, ExtentInfo const& extent) {
  uses_.push_back({extent.block, extent.count, extent.owner, r.key.inode});
  auto const own = layer_.info.id;
  if (!c_.scan.may_own(extent.owner, r.owner))
    say(Code::kOwner, Severity::kError, r.key.inode, r.at + offsetof(ExtentRecord, owner),
        fmt::format("extent owned by layer {}, which is not an ancestor of layer {}", extent.owner,
                    r.owner));
  if (r.owner != own) return;  // the leaf's owner has checked the rest
  bool const inherited = extent.owner != own;
  if (inherited && !c_.scan.in_runs(extent.owner, extent.block, extent.count))
    say_aside(Code::kOwner, Severity::kError, r.key.inode, r.at + offsetof(ExtentRecord, block),
              fmt::format("inherited blocks {}+{} are not in the runs of their owner, layer {}",
                          extent.block, extent.count, extent.owner));
  if (c_.data && !(inherited && inherited_as_is(r, extent)))
    data_.add(extent, r.key.inode, r.key.offset);
}

// Whether the parent's tree maps the same file blocks to the same blocks with the same checksums.
// Then the data is checked there.
bool LayerCheck::inherited_as_is(WalkedRecord const& r, ExtentInfo const& extent) {
  auto const* parent = c_.scan.layer(layer_.info.parent);
  if (parent == nullptr) return false;
  auto const found = find_last(c_.source, parent->info.root, r.key);
  if (!found || found->record.key.inode != r.key.inode || found->record.key.kind != kExtent)
    return false;
  auto const theirs =
      parse_extent(found->record.key, found->record.value, c_.superblock.total_blocks);
  if (!theirs) return false;
  auto const skip = (r.key.offset - found->record.key.offset) / kBlockSize;
  if (skip >= theirs->count || extent.count > theirs->count - skip ||
      theirs->block + skip != extent.block)
    return false;
  auto const sums = theirs->checksums.subspan(skip, extent.count);
  return std::memcmp(sums.data(), extent.checksums.data(), sums.size_bytes()) == 0;
}

void LayerCheck::check_links() {
  links_.check(layer_.info.root_inode, [this](Code code, Key const& key, std::uint64_t about,
                                              std::string text) {
    auto const found =
        find_first(c_.source, layer_.info.root, key, {key.inode, key.kind, key.offset + 1});
    auto const at = found ? found->record.at : kNoOffset;
    said_ = true;
    result_.tree_sound = false;
    if (at != kNoOffset && c_.findings.known(code, at)) return;
    Finding f;
    f.code = code;
    f.layer = layer_.info.id;
    f.layer_name = layer_.info.name;
    f.inode = about;
    f.offset = at;
    f.text = std::move(text);
    // An entry is named by its directory, because the inode may not have a back reference.
    if (key.kind == kDirent && found) {
      f.path = path(key.inode);
      if (auto const entry = parse_dirent(found->record.key, found->record.value); entry)
        f.path += (f.path == "/" ? "" : "/") + std::string(entry->name);
    } else {
      f.path = path(about);
    }
    c_.findings.add(std::move(f));
  });
}

void LayerCheck::check_space() {
  for (auto const& u : uses_) {
    if (u.inode != kSkeletonUse) result_.used_blocks += u.count;
  }
  find_overlaps(uses_, [this](Use const& first, Use const& second) {
    // Data of an ancestor may be mapped by any number of files: the layer never frees it.
    auto const inherited = [this](Use const& u) {
      return u.inode != 0 && u.owner != layer_.info.id;
    };
    if (inherited(first) && inherited(second) && first.owner == second.owner) return;
    auto const what = [this](Use const& u) {
      return u.inode == 0              ? std::string{"a node"}
             : u.inode == kSkeletonUse ? "the skeleton of its tar"
                                       : path(u.inode);
    };
    say(Code::kTwice, Severity::kError, second.inode, second.block * kBlockSize,
        fmt::format("blocks {}+{} belong to both {} and {}", second.block,
                    std::min(second.count, first.block + first.count - second.block), what(second),
                    what(first)));
  });
  for (auto const& u : uses_) {
    if (u.owner != layer_.info.id) continue;
    (u.inode == 0 ? result_.node_blocks : result_.data_blocks) += u.count;
  }
  if (!c_.scan.complete()) return;  // runs may be missing
  for (auto const& d : compare_runs(layer_.info.id, uses_, c_.scan.runs_of(layer_))) {
    // The blocks of a damaged part of the tree are unknown, so only the other half can be checked.
    if (!d.used && !result_.complete) continue;
    say_aside(Code::kRun, Severity::kError, d.inode, d.block * kBlockSize,
              d.used ? fmt::format("blocks {}+{} are in use, but in no run of the layer", d.block,
                                   d.count)
                     : fmt::format("blocks {}+{} are in a run of the layer, but nothing uses them",
                                   d.block, d.count));
  }
}

void LayerCheck::check_counters() {
  auto const& info = layer_.info;
  auto const counter = [&](std::size_t at, char const* what, std::uint64_t says, std::uint64_t is) {
    if (says != is)
      say_aside(Code::kCounter, Severity::kError, 0, layer_.at + at,
                fmt::format("{} {}, but there are {}", what, says, is));
  };
  counter(offsetof(LayerRecord, inodes), "inodes", info.inodes, result_.inodes);
  counter(offsetof(LayerRecord, used_blocks), "used_blocks", info.used_blocks, result_.used_blocks);
  if (result_.last_inode >= c_.superblock.next_inode)
    say_aside(Code::kCounter, Severity::kError, result_.last_inode,
              kSlotBlock[c_.superblock.slot] * kBlockSize + offsetof(Superblock, next_inode),
              fmt::format("superblock: next_inode {}, but inode {} is in use",
                          c_.superblock.next_inode, result_.last_inode));
}

void LayerCheck::bad_block(BadBlock const& b) {
  auto const* const what = b.inode == kSkeletonUse ? "skeleton of its tar" : "data";
  auto const* const where = b.inode == kSkeletonUse ? "" : "file ";
  bad_.push_back(b);
  if (b.unread)
    return say_aside(Code::kIo, Severity::kError, b.inode, b.block * kBlockSize,
                     fmt::format("{} at {}offset {:#x} cannot be read: {}", what, where,
                                 b.file_offset, std::strerror(b.sys)));
  say_aside(Code::kData, Severity::kError, b.inode, b.block * kBlockSize,
            fmt::format("{} at {}offset {:#x} has checksum {:#010x}, expected {:#010x}", what,
                        where, b.file_offset, b.found, b.expected));
}

}  // namespace lcfs::fsck
