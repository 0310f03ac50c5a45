// SPDX-License-Identifier: Apache-2.0
#include "fsck/skeleton_check.h"

#include <fmt/format.h>

#include "fsck/data_check.h"
#include "fsck/owners.h"
#include "fsck/tree_walk.h"

namespace lcfs::fsck {

void SkeletonScan::take_record(SkeletonInfo const& info, std::uint64_t at) {
  end();
  layer_ = info.layer;
  size_ = info.size;
  judge_ = true;
  entries_[info.layer].at = at;
}

void SkeletonScan::take_extent(std::uint64_t layer, std::uint64_t offset, ExtentInfo const& extent,
                               std::uint64_t at) {
  if (layer != layer_) {
    end();
    if (judge_) say_(at, "part of a skeleton without a skeleton record", layer);
    layer_ = layer;
    size_ = 0;
    judge_ = false;
  }
  auto& entry = entries_[layer];
  if (judge_ && offset != entry.blocks * kBlockSize) {
    say_(at,
         fmt::format("part of a skeleton at {:#x}, expected {:#x}", offset,
                     entry.blocks * kBlockSize),
         layer);
    judge_ = false;
  }
  entry.blocks += extent.count;
}

void SkeletonScan::gap() { judge_ = false; }

void SkeletonScan::end() {
  if (layer_ != 0 && judge_) {
    auto& entry = entries_[layer_];
    auto const wanted = (size_ + kBlockSize - 1) / kBlockSize;
    entry.sound = entry.blocks == wanted;
    if (!entry.sound)
      say_(entry.at + offsetof(SkeletonRecord, size),
           fmt::format("skeleton of {} bytes in {} blocks, not {}", size_, entry.blocks, wanted),
           layer_);
  }
  layer_ = 0;
  judge_ = true;
}

void use_skeleton(NodeSource& source, NodePtr const& store_root, std::uint64_t total_blocks,
                  std::uint64_t layer, std::vector<Use>& uses, DataCheck* data) {
  Key const end{layer, kSkeletonExtent + 1, 0};
  for (Key from{layer, kSkeletonExtent, 0};;) {
    auto const found = find_first(source, store_root, from, end);
    if (!found) return;
    auto const& r = found->record;
    if (auto const extent = parse_skeleton_extent(r.key, r.value, total_blocks); extent) {
      uses.push_back({extent->block, extent->count, layer, kSkeletonUse});
      if (data != nullptr) data->add(*extent, kSkeletonUse, r.key.offset);
    }
    from = {layer, kSkeletonExtent, r.key.offset + 1};
  }
}

}  // namespace lcfs::fsck
