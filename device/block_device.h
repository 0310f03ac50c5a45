// SPDX-License-Identifier: Apache-2.0
// A store on a block device: a fixed size, blocks that are always backed, BLKDISCARD where the
// device supports it.
#pragma once

#include <memory>
#include <string>

#include "device/device.h"

namespace lcfs::device {

// Fails with kInvalid if `path` is no longer a block device.  Opening read-write claims it
// (O_EXCL): it fails with kBusy if the device is mounted, a swap area, a RAID member or part of a
// volume group, and while it is open nobody can mount it.
Result<std::unique_ptr<Device>> open_block_device(std::string const& path, Access access);

}  // namespace lcfs::device
