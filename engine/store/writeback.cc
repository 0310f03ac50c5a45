// SPDX-License-Identifier: Apache-2.0
#include "engine/store/writeback.h"

#include <algorithm>

#include "engine/layer/layer_impl.h"

namespace lcfs {

Status Writeback::nodes(std::vector<NodeRef> nodes) const {
  std::sort(nodes.begin(), nodes.end(),
            [](NodeRef const& a, NodeRef const& b) { return a->block < b->block; });
  constexpr std::size_t kMost = 64;  // 1 MiB a write
  std::vector<iovec> parts;
  for (std::size_t i = 0; i < nodes.size();) {
    parts.clear();
    std::uint64_t const first = nodes[i]->block;
    do {
      parts.push_back({nodes[i]->bytes.data(), kNodeSize});
      ++i;
    } while (i < nodes.size() && parts.size() < kMost &&
             nodes[i]->block == first + parts.size() * kNodeBlocks);
    LCFS_TRY(device_.write(first * kBlockSize, parts));
  }
  for (auto const& node : nodes) cache_.unpin(node->block);
  return {};
}

Status Writeback::data(IoBatch const& batch) const {
  std::vector<iovec> parts;
  for (auto const& piece : batch.pieces) {
    parts.clear();
    for (auto const& page : piece.pages) parts.push_back({page->bytes.data(), kBlockSize});
    LCFS_TRY(device_.write(piece.device_offset, parts));
  }
  return {};
}

}  // namespace lcfs
