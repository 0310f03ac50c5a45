// SPDX-License-Identifier: Apache-2.0
// A file of a layer in words and in JSON: what ls and stat share.
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

// {"path","type","mode","inode","nlink","uid","gid","size","blocks","mtime"}, and "target" or
// "rdev" where there is one. Errors are those of reading the target.
Result<Json> file_json(Layer& layer, std::string const& path, Attr const& attr);

}  // namespace lcfs::cli
