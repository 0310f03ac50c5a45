// SPDX-License-Identifier: Apache-2.0
// Whether a checkpoint is complete whose superblock was written together with its blocks.
#pragma once

#include "device/device.h"
#include "format/superblock.h"

namespace lcfs::device {

// Reads the blocks of its written runs.  False also if one of them cannot be read: the
// checkpoint before it is complete in any case.
[[nodiscard]] bool is_whole(Device& device, format::SuperblockInfo const& checkpoint);

}  // namespace lcfs::device
