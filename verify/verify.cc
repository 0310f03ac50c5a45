// SPDX-License-Identifier: Apache-2.0
#include "verify/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "fsck/data_check.h"
#include "fsck/paths.h"
#include "fsck/tree_walk.h"
#include "verify/held.h"
#include "verify/tree_digest.h"

namespace lcfs::verify {

namespace {

class Verifier {
 public:
  Verifier(Store& store, HeldLayers const& held, VerifyOptions const& options,
           std::function<void(Damage const&)> const& tell)
      : device_(store.device()),
        options_(options),
        tell_(tell),
        source_(device_, held.superblock, 16u << 20, false),
        data_(device_, options.threads, [this](fsck::BadBlock const& b) { bad_block(b); }) {}

  Status read(VerifiedLayer& layer) {
    layer_ = &layer;
    owners_.clear();
    fsck::WalkHooks hooks;
    hooks.on_node = [this](std::uint64_t block, NodeHeader const&, std::uint64_t) {
      bool const fresh = nodes_.insert(block).second;
      layer_->nodes += fresh ? 1 : 0;
      return fresh;
    };
    hooks.on_damage = [this](Error const& error, NodePtr const& ptr, unsigned, Key const&,
                             Key const&) {
      if (nodes_.insert(ptr.block.get()).second) bad_node(error, ptr);
    };
    fsck::TreeWalk walk(source_, layer.info.root, layer.info.id, std::move(hooks));
    std::uint64_t records = 0;
    while (auto const r = walk.next()) {
      if (options_.stop != nullptr && (++records & 1023) == 0 && *options_.stop)
        return Error::interrupted();
      if (r->key.kind != kExtent) continue;
      auto const extent = parse_extent(r->key, r->value, source_.total_blocks());
      if (!extent) {
        Damage d;
        d.inode = r->key.inode;
        d.device_offset = r->at;
        d.text = extent.error().message;
        damage(std::move(d));
        continue;
      }
      // A child that rewrote a leaf repeats its extents.
      if (!extents_.insert(extent->block << 9 | extent->count).second) continue;
      layer_->data_blocks += extent->count;
      owners_.push_back({extent->block, extent->owner});
      data_.add(*extent, r->key.inode, r->key.offset);
    }
    std::sort(owners_.begin(), owners_.end());
    data_.flush();
    return {};
  }

 private:
  void damage(Damage d) {
    d.layer = layer_->info.id;
    if (d.inode != 0)
      d.path = fsck::path_of(source_, layer_->info.root, layer_->info.root_inode, d.inode);
    ++layer_->damaged;
    tell_(d);
  }
  void bad_node(Error const& error, NodePtr const& ptr) {
    Damage d;
    d.device_offset = ptr.block.get() * kBlockSize;
    d.text = fmt::format("node of the tree: {}", error.message);
    damage(std::move(d));
  }
  void bad_block(fsck::BadBlock const& b) {
    Damage d;
    d.inode = b.inode;
    d.file_offset = b.file_offset;
    d.device_offset = b.block * kBlockSize;
    d.expected = b.expected;
    auto const it = std::upper_bound(owners_.begin(), owners_.end(),
                                     std::pair<std::uint64_t, LayerId>(b.block, ~0ull));
    if (it != owners_.begin()) d.owner = std::prev(it)->second;
    d.text = b.unread
                 ? fmt::format("data cannot be read (error {})", b.sys)
                 : fmt::format("data checksum {:#010x}, expected {:#010x}", b.found, b.expected);
    damage(std::move(d));
  }

  Device& device_;
  VerifyOptions const& options_;
  std::function<void(Damage const&)> const& tell_;
  fsck::NodeSource source_;
  fsck::DataCheck data_;
  VerifiedLayer* layer_ = nullptr;
  std::unordered_set<std::uint64_t> nodes_, extents_;  // already seen, in any layer
  // Of this layer's extents, by first block.
  std::vector<std::pair<std::uint64_t, LayerId>> owners_{};
};

Status check_diff_id(Store& store, VerifyOptions const& options, VerifiedLayer& layer,
                     std::function<void(Damage const&)> const& tell) {
  auto const same = options.diff_id(store, layer.info);
  if (same) {
    if (*same) layer.diff_id = **same ? VerifiedLayer::kSame : VerifiedLayer::kDifferent;
    return {};
  }
  if (same.error().code == Errc::kNotFound) return {};  // removed meanwhile
  if (same.error().code != Errc::kCorrupt && same.error().code != Errc::kIo) return same.error();
  Damage d;
  d.layer = d.owner = layer.info.id;
  d.device_offset = same.error().offset;
  d.text = same.error().message;
  ++layer.damaged;
  tell(d);
  return {};
}

Status check_digest(Store& store, VerifyOptions const& options, VerifiedLayer& layer) {
  LCFS_TRY_ASSIGN(auto const recorded, store.tree_digest(layer.info.id));
  if (!recorded && !options.record) return {};
  LCFS_TRY_ASSIGN(layer.tree,
                  compute_tree_digest(store, layer.info.id, {options.threads, options.stop, {}}));
  if (recorded) {
    layer.digest = *recorded == *layer.tree ? VerifiedLayer::kSame : VerifiedLayer::kDifferent;
  } else if (!store.read_only()) {
    LCFS_TRY(store.set_tree_digest(layer.info.id, *layer.tree));
  }
  return {};
}

}  // namespace

Result<std::vector<VerifiedLayer>> verify_layers(Store& store, std::vector<LayerId> ids,
                                                 VerifyOptions const& options,
                                                 std::function<void(Damage const&)> const& tell) {
  std::sort(ids.begin(), ids.end());  // parents first: they own what others share
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  LCFS_TRY_ASSIGN(auto const held, hold_layers(store, ids));
  store.drop_caches();  // cached nodes and data would hide damage on the device
  Verifier verifier(store, held, options, tell);
  std::vector<VerifiedLayer> out;
  for (auto const& info : held.layers) {
    if (options.progress) options.progress(info.name, out.size(), held.layers.size());
    auto& layer = out.emplace_back();
    layer.info = info;
    LCFS_TRY(verifier.read(layer));
  }
  // With damage, the digest would only differ as well.
  bool const sound =
      std::all_of(out.begin(), out.end(), [](auto const& l) { return l.damaged == 0; });
  std::uint64_t done = 0;
  for (auto& layer : out) {
    if (!sound || layer.info.state != LayerState::kFrozen) continue;
    if (options.progress) options.progress(layer.info.name, done++, out.size());
    if (options.diff_id && layer.info.has_digests)
      LCFS_TRY(check_diff_id(store, options, layer, tell));
    auto checked = check_digest(store, options, layer);
    if (!checked && checked.error().code != Errc::kNotFound)
      return checked.error();  // kNotFound: removed meanwhile
  }
  return out;
}

}  // namespace lcfs::verify
