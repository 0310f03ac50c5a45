// SPDX-License-Identifier: Apache-2.0
// A store on a block device: a size that is given, blocks that are always backed, BLKDISCARD where
// the device knows it.
#pragma once

#include <memory>
#include <string>

#include "device/device.h"

namespace lcfs {

// `path` was a block device when the caller looked; refused if it no longer is.  Read-write opens
// claim it (O_EXCL): one that is mounted, a swap area, a member of a RAID or part of a volume group
// is refused with kBusy, and nobody can mount it while we have it.
Result<std::unique_ptr<Device>> open_block_device(std::string const& path, Access access);

}  // namespace lcfs
