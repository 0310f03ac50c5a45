// SPDX-License-Identifier: Apache-2.0
// Collects the records; store_check.cc compares them.
#include "fsck/store_scan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "format/hash.h"
#include "fsck/tree_walk.h"

namespace lcfs::fsck {

void StoreScan::say(Code code, std::uint64_t at, std::string text, std::uint64_t layer) {
  Finding f;
  f.code = code;
  f.layer = layer;
  f.layer_name = name_of(layer);
  f.offset = at;
  f.text = std::move(text);
  findings_.add(std::move(f));
}

void StoreScan::collect() {
  WalkHooks hooks;
  hooks.on_node = [this](std::uint64_t block, NodeHeader const& header, std::uint64_t) {
    if (header.owner.get() != 0)
      say(Code::kOwner, block * kBlockSize + offsetof(NodeHeader, owner),
          fmt::format("node of the store tree is owned by layer {}", header.owner.get()));
    nodes_.push_back(block);
    return true;
  };
  hooks.on_damage = [this](Error const& error, NodePtr const& ptr, unsigned, Key const& low,
                           Key const&) {
    if (auto const block = ptr.block.get();
        block >= kReservedBlocks && block <= sb_.total_blocks - kNodeBlocks)
      damaged_nodes_.push_back(block);
    auto const at = error.offset != kNoOffset ? error.offset : ptr.block.get() * kBlockSize;
    say(error.code == Errc::kIo ? Code::kIo : Code::kNode, at,
        fmt::format("store tree: {}; the records from ({}, {:#04x}, {:#x}) are unknown",
                    error.text(), low.inode, low.kind, low.offset));
  };
  TreeWalk walk(source_, sb_.store_root, 0, std::move(hooks));
  BlobCheck blobs(
      [this](std::uint64_t at, std::string text) { say(Code::kBlob, at, std::move(text)); });
  while (auto const r = walk.next()) {
    if (r->after_gap) {
      blobs.gap();
      skeletons_.gap();
    }
    take(r->key, r->value, r->at, blobs);
  }
  blobs.finish();
  complete_ = walk.complete();
  if (!complete_) skeletons_.gap();
  skeletons_.finish();
  link_runs();
}

void StoreScan::take(Key const& key, Bytes value, std::uint64_t at, BlobCheck& blobs) {
  // A record that does not parse is reported and left out; what misses it is reported by the checks
  // that follow.
  auto const bad = [&](Error const& error) {
    say(Code::kRecord, at + (error.offset == kNoOffset ? 0 : error.offset), error.message,
        key.kind == kLayer || key.kind == kRun || key.kind >= kSkeleton ? key.inode : 0);
  };
  switch (key.kind) {
    case kLayer:
      if (auto r = parse_layer(key, value, sb_.total_blocks); r) {
        LayerEntry entry;
        entry.info = *std::move(r);
        entry.at = at;
        layers_.push_back(std::move(entry));
      } else {
        bad(r.error());
        // One contradictory counter does not discard the rest of the record.
        std::vector<std::byte> copy(value.begin(), value.end());
        if (copy.size() < sizeof(LayerRecord)) return;
        std::memset(copy.data() + offsetof(LayerRecord, own_blocks), 0,
                    sizeof(LayerRecord::own_blocks));
        std::memset(copy.data() + offsetof(LayerRecord, skeleton_blocks), 0,
                    sizeof(LayerRecord::skeleton_blocks));
        if (auto again = parse_layer(key, copy, sb_.total_blocks); again) {
          LayerEntry entry;
          entry.info = *std::move(again);
          entry.at = at;
          layers_.push_back(std::move(entry));
        }
      }
      return;
    case kRun:
      if (auto r = parse_run(key, value, sb_.total_blocks); r)
        runs_.push_back({r->layer, r->start, r->count, at});
      else
        bad(r.error());
      return;
    case kImage:
      if (auto r = parse_image(key, value); r) {
        images_.push_back({*r, at, 0});
        blobs.begin_image(*r, at);
      } else {
        bad(r.error());
      }
      return;
    case kImageName: {
      std::string name(reinterpret_cast<char const*>(value.data()), value.size());
      if (name.empty() || name.size() > kMaxImageName || name.find('\0') != std::string::npos)
        return say(Code::kRecord, at, fmt::format("image name of {} bytes", name.size()));
      if ((key.offset & ~(kProbes - 1)) != name_key(sb_.hash_seed, name))
        say(Code::kHash, at, fmt::format("image name \"{}\" at the key of another name", name));
      image_names_.push_back({key.inode, NameType::kImage, std::move(name), at});
      return;
    }
    case kBlob: return blobs.chunk(key, value, at);
    case kName:
      if (auto r = parse_name(key, value); r) {
        if ((key.offset & ~(kProbes - 1)) != name_key(sb_.hash_seed, r->name))
          say(Code::kHash, at, fmt::format("name \"{}\" at the key of another name", r->name));
        names_.push_back({r->id, r->type, std::string(r->name), at});
      } else {
        bad(r.error());
      }
      return;
    case kDigest:
      if (auto r = parse_digest(key, value); r)
        digests_.push_back({*r, at});
      else
        bad(r.error());
      return;
    case kSkeleton:
      if (auto r = parse_skeleton(key, value); r)
        skeletons_.take_record(*r, at);
      else
        bad(r.error());
      return;
    case kSkeletonExtent:
      if (auto r = parse_skeleton_extent(key, value, sb_.total_blocks); r)
        skeletons_.take_extent(key.inode, key.offset, *r, at);
      else
        bad(r.error());
      return;
    case kCheckpoint:
      if (auto r = parse_checkpoint(key, value, sb_.total_blocks); !r)
        bad(r.error());
      else if (r->generation >= sb_.generation)
        say(Code::kHistory, at, fmt::format("restore point {} is not finished", r->generation));
      else
        checkpoints_.push_back({*std::move(r), at});
      return;
    case kTreeDigest:
      if (auto r = parse_tree_digest(key, value); r)
        tree_digests_.emplace_back(key.inode, at);
      else
        bad(r.error());
      return;
    default:
      say(Code::kRecord, at,
          fmt::format("record of unknown kind {:#04x} in the store tree", key.kind));
  }
}

void StoreScan::link_runs() {
  // Both tables are in key order, so one pass joins them.
  std::size_t l = 0;
  for (std::size_t i = 0; i < runs_.size();) {
    auto const id = runs_[i].layer;
    std::size_t to = i;
    std::uint64_t blocks = 0;
    for (; to < runs_.size() && runs_[to].layer == id; ++to) {
      auto const& r = runs_[to];
      if (to > i && r.start - runs_[to - 1].start <= runs_[to - 1].count)
        say(Code::kRun, r.at,
            fmt::format("run {}+{} touches or overlaps run {}+{}", r.start, r.count,
                        runs_[to - 1].start, runs_[to - 1].count),
            id);
      // Wraps only in a damaged store, whose runs then overlap, which is reported.
      blocks += r.count;
    }
    while (l < layers_.size() && layers_[l].info.id < id) ++l;
    if (l < layers_.size() && layers_[l].info.id == id) {
      layers_[l].runs_from = i;
      layers_[l].runs_to = to;
      layers_[l].run_blocks = blocks;
    } else if (complete_) {
      say(Code::kRun, runs_[i].at, fmt::format("runs of layer {}, which does not exist", id));
    }
    i = to;
  }
}

LayerEntry const* StoreScan::layer(std::uint64_t id) const {
  auto const it = std::lower_bound(
      layers_.begin(), layers_.end(), id,
      [](LayerEntry const& e, std::uint64_t wanted) { return e.info.id < wanted; });
  return it != layers_.end() && it->info.id == id ? &*it : nullptr;
}

std::string StoreScan::name_of(std::uint64_t id) const {
  auto const* entry = layer(id);
  return entry != nullptr ? entry->info.name : std::string{};
}

std::uint64_t StoreScan::last_id() const {
  std::uint64_t last = 0;
  for (auto const& l : layers_) last = std::max({last, l.info.id, l.info.serve_id});
  for (auto const& i : images_) last = std::max(last, i.info.id);
  return last;
}

bool StoreScan::may_own(std::uint64_t owner, std::uint64_t by) const {
  if (owner == by) return true;
  auto const* o = layer(owner);
  auto const* b = layer(by);
  return o != nullptr && b != nullptr && o->enter != 0 && o->enter < b->enter &&
         b->leave <= o->leave;
}

bool StoreScan::in_runs(std::uint64_t owner, std::uint64_t block, std::uint64_t count) const {
  auto const* entry = layer(owner);
  if (entry == nullptr) return false;
  auto const runs = runs_of(*entry);
  auto it = std::upper_bound(runs.begin(), runs.end(), block,
                             [](std::uint64_t b, RunEntry const& r) { return b < r.start; });
  if (it == runs.begin()) return false;
  --it;
  auto const into = block - it->start;
  return into < it->count && count <= it->count - into;
}

}  // namespace lcfs::fsck
