// SPDX-License-Identifier: Apache-2.0
// From a path to a file of a layer.
// Symlinks are followed inside the layer: an absolute target starts at its root again, ".." stops
// there. Paths are bytes; repeated "/" and "." mean nothing; "" is the root.
#pragma once

#include <cstdint>
#include <string_view>

#include "engine/layer.h"
#include "engine/types.h"

namespace lcfs {

enum class LastLink : std::uint8_t { kKeep, kFollow };  // a symlink as the last component

inline constexpr unsigned kMaxLinks = 40;  // followed in one path, as Linux does; then ELOOP

// Errors: kFs with ENOENT, ENOTDIR, ELOOP or ENAMETOOLONG, .path = `path`; or what the layer says.
// A path that ends in "/" (or "/.") means the directory, so its last link is followed.
Result<Attr> resolve_path(Layer& layer, std::string_view path, LastLink last);

}  // namespace lcfs
