// SPDX-License-Identifier: Apache-2.0
// A store in a regular file: sparse, direct I/O where the host's file system has it, given space by
// fallocate and relieved of it by punching holes.  Where the file system can't do these, reserve()
// is best effort (a later write may then find the host full) and discard() and release() do
// nothing.  On a host that copies on write (btrfs without nodatacow) a reserve is good for the
// first write of a block only. reserve, release and discard of a range must not run at the same
// time as a write to it. create_file_device() is declared in device.h.
#pragma once

#include <memory>
#include <string>

#include "device/device.h"

namespace lcfs {

// `path` was a regular file when the caller looked; refused if it no longer is.
Result<std::unique_ptr<Device>> open_file_device(std::string const& path, Access access);

}  // namespace lcfs
