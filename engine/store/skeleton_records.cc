// SPDX-License-Identifier: Apache-2.0
// The records of a layer's skeleton in the store tree.
#include "engine/store/layer_table.h"

namespace lcfs {

Status LayerTable::put_skeleton(SkeletonInfo const& info,
                                std::vector<SkeletonExtent> const& extents) {
  Tree& tree = tree_.edit();
  LCFS_TRY(tree.put({info.layer, kSkeleton, 0}, as_bytes(encode_skeleton(info))));
  std::uint64_t at = 0;
  std::vector<le32> words;
  std::vector<std::byte> record;
  for (auto const& e : extents) {
    words.clear();
    for (std::uint32_t const sum : e.sums) words.emplace_back(sum);
    encode_extent({e.block, info.layer, static_cast<std::uint32_t>(e.sums.size()), words}, record);
    LCFS_TRY(tree.put({info.layer, kSkeletonExtent, at}, record));
    at += e.sums.size() * kBlockSize;
  }
  return {};
}

// At most kMaxSkeleton / 1 MiB records when all extents are full: a removal stays short (I9).
Status LayerTable::erase_skeleton(LayerId id) {
  return tree_.edit().erase_range({id, kSkeleton, 0}, {id, kSkeletonExtent, ~0ull}, nullptr);
}

}  // namespace lcfs
