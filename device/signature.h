// SPDX-License-Identifier: Apache-2.0
// What mkfs checks before it overwrites something.  All functions take regular files and block
// devices, and only read.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"

namespace lcfs::device {

// What the contents of `path` are, in words: "lcfs store", "ext4 filesystem (label X)", "gpt
// partition table", "crypto_LUKS encrypted volume".  Nothing if no known signature is there.
Result<std::optional<std::string>> foreign_signature(std::string const& path);

// How the kernel uses it, in words: "mounted at /mnt", "attached to /dev/loop0" (a regular
// file).  A block device counts as mounted if one of its partitions is.  Looks at this mount
// namespace and /sys only, so "nothing" is a hint; the claim that open_device(kReadWrite) makes on
// a block device is the proof.
Result<std::optional<std::string>> kernel_use(std::string const& path);

Result<bool> is_mounted(std::string const& path);  // true if kernel_use() has an answer

}  // namespace lcfs::device
