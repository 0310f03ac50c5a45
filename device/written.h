// SPDX-License-Identifier: Apache-2.0
// Is a checkpoint whole whose superblock was written together with what it leads to?
#pragma once

#include "device/device.h"
#include "format/superblock.h"

namespace lcfs {

// Reads the blocks of its written runs.  False also if one of them can't be read: the checkpoint
// before it is whole in any case.
[[nodiscard]] bool is_whole(Device& device, SuperblockInfo const& checkpoint);

}  // namespace lcfs
