// SPDX-License-Identifier: Apache-2.0
// The attributes of a file as text and as JSON, for ls, stat and diff.
#pragma once

#include <string>

#include "cli/json.h"
#include "engine/layer.h"

namespace lcfs::cli {

// "drwxr-sr-t"
std::string mode_text(std::uint32_t mode);
// "file", "directory", "symlink", "char", "block", "fifo", "socket"
char const* type_text(std::uint32_t mode);
// "8, 1"
std::string rdev_text(std::uint64_t rdev);

// {"path","type","mode","inode","nlink","uid","gid","size","blocks","mtime"}, and "target" of a
// symlink or "rdev" of a device (doc/json.md).  Fails only if the target cannot be read.
Result<Json> file_json(Layer& layer, std::string const& path, Attr const& attr);

}  // namespace lcfs::cli
