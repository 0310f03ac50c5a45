// SPDX-License-Identifier: Apache-2.0
// Any bytes as a superblock, past the checksum: what is accepted is in range and comes back as it
// was.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "format/superblock.h"

using namespace lcfs;
using namespace lcfs::format;

namespace {
void require(bool holds) {
  if (!holds) __builtin_trap();
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  constexpr std::uint64_t kDevice = std::uint64_t{1} << 40;
  auto const bytes = std::as_bytes(std::span{data, size});
  for (std::uint32_t slot = 0; slot < 2; ++slot) {
    auto const r = parse_superblock(bytes, {slot, kDevice, true});
    if (!r) {
      require(!r.error().message.empty());
      require(r.error().offset <= size || r.error().offset < sizeof(Superblock));
      continue;
    }
    require(r->slot == slot && r->generation >= 1 && r->next_id >= 1 && r->next_inode >= 1);
    require(r->total_blocks >= kMinStoreBlocks && r->total_blocks <= kDevice / kBlockSize);
    require(r->store_tree_blocks + r->layer_blocks + kReservedBlocks <= r->total_blocks);
    require(r->layer_count < r->next_id && r->image_count < r->next_id);
    auto const root = r->store_root.block.get();
    require(root == 0 || (root >= kReservedBlocks && root + kNodeBlocks <= r->total_blocks));
    require(r->written.size() <= kMaxWritten);
    for (auto const& run : r->written) {
      require(run.count.get() >= 1 && run.count.get() <= kNodeBlocks &&
              run.block.get() >= kReservedBlocks);
      require(run.block.get() + run.count.get() <= r->total_blocks);
    }
    // What we write of it is the same again, with a right checksum.
    std::array<std::byte, kBlockSize> block{};
    encode_superblock(*r, block);
    auto const again = parse_superblock(block, {slot, kDevice, false});
    require(again.ok());
    std::array<std::byte, kBlockSize> twice{};
    encode_superblock(*again, twice);
    require(block == twice);
  }
  return 0;
}
