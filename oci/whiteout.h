// SPDX-License-Identifier: Apache-2.0
// Names that hide files: whiteouts and opaque marks of a layer.
// Specification: OCI image-spec layer.md, "Whiteouts"; aufs(5) for the ".wh..wh." names.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace lcfs::oci {

enum class WhiteoutKind : std::uint8_t {
  kNone,     // an ordinary entry
  kHides,    // DIR/.wh.NAME: hides DIR/NAME of the layers below; `path` is DIR/NAME
  kOpaque,   // DIR/.wh..wh..opq: hides all that the layers below have in DIR; `path` is DIR
  kIgnored,  // internal files of aufs (.wh..wh.aufs, .wh..wh.orph, .wh..wh.plnk) and what is in
             // them
};

struct Whiteout {
  WhiteoutKind kind = WhiteoutKind::kNone;
  std::string path{};
};

// Classifies an entry by its path, whatever its type.  kInvalid: ".wh." alone, a whiteout of "." or
// "..", or a path that goes through a whiteout.
Result<Whiteout> classify_whiteout(std::string_view path);

}  // namespace lcfs::oci
