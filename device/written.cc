// SPDX-License-Identifier: Apache-2.0
#include "device/written.h"

namespace lcfs {

bool is_whole(Device& device, SuperblockInfo const& checkpoint) {
  if (checkpoint.written_torn) return false;
  AlignedBuffer buffer(kNodeSize);
  for (auto const& run : checkpoint.written) {
    auto const bytes = buffer.span().first(std::size_t{run.count.get()} * kBlockSize);
    if (!device.read(run.block.get() * kBlockSize, bytes) || !holds(run, bytes)) return false;
  }
  return true;
}

}  // namespace lcfs
