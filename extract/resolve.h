// SPDX-License-Identifier: Apache-2.0
// Resolves a path to a file of a layer.
// Symlinks are followed inside the layer: an absolute target starts at its root, and ".." stops
// there. Paths are bytes; repeated "/" and "." are ignored; "" is the root.
#pragma once

#include <cstdint>
#include <string_view>

#include "engine/layer.h"
#include "engine/types.h"

namespace lcfs::extract {

enum class LastLink : std::uint8_t { kKeep, kFollow };  // a symlink as the last component

inline constexpr unsigned kMaxLinks = 40;  // followed in one path, as Linux does; then ELOOP

// Errors: kFs with ENOENT, ENOTDIR, ELOOP or ENAMETOOLONG, .path = `path`; or those of the layer.
// A path that ends in "/" (or "/.") means the directory, so its last link is followed.
Result<Attr> resolve_path(Layer& layer, std::string_view path, LastLink last);

}  // namespace lcfs::extract
