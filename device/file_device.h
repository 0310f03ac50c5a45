// SPDX-License-Identifier: Apache-2.0
// A store in a regular file: sparse, with direct I/O where the host file system supports it.
// fallocate reserves its space and punching holes frees it.  Where the file system cannot do these,
// reserve() is best effort (a later write may find the host full), and discard() and release() do
// nothing.  On a copy-on-write host (btrfs without nodatacow) a reservation covers only the first
// write of a block.  reserve, release and discard of a range must not run at the same time as a
// write to it.  create_file_device() is declared in device.h.
#pragma once

#include <memory>
#include <string>

#include "device/device.h"

namespace lcfs::device {

// Fails with kInvalid if `path` is no longer a regular file.
Result<std::unique_ptr<Device>> open_file_device(std::string const& path, Access access);

}  // namespace lcfs::device
