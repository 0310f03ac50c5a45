// SPDX-License-Identifier: Apache-2.0
#include "device/written.h"

namespace lcfs::device {

bool is_whole(Device& device, format::SuperblockInfo const& checkpoint) {
  if (checkpoint.written_torn) return false;
  AlignedBuffer buffer(format::kNodeSize);
  for (auto const& run : checkpoint.written) {
    auto const bytes = buffer.span().first(std::size_t{run.count.get()} * format::kBlockSize);
    if (!device.read(run.block.get() * format::kBlockSize, bytes) || !format::holds(run, bytes))
      return false;
  }
  return true;
}

}  // namespace lcfs::device
