// SPDX-License-Identifier: Apache-2.0
#include "oci/whiteout.h"

#include <algorithm>

namespace lcfs::oci {
namespace {

constexpr std::string_view kPrefix = ".wh.";
constexpr std::string_view kMetaPrefix = ".wh..wh.";
constexpr std::string_view kOpaqueName = ".wh..wh..opq";

}  // namespace

Result<Whiteout> classify_whiteout(std::string_view path) {
  if (path.find(kPrefix) == std::string_view::npos) return Whiteout{};
  while (path.ends_with('/')) path.remove_suffix(1);
  auto const slash = path.rfind('/');
  std::string_view const directory =
      slash == std::string_view::npos ? std::string_view{} : path.substr(0, slash + 1);
  std::string_view const name = path.substr(directory.size());

  bool below_whiteout = false;
  for (std::string_view rest = directory; !rest.empty();) {
    auto const end = rest.find('/');
    std::string_view const component = rest.substr(0, end);
    if (component.starts_with(kMetaPrefix)) return Whiteout{WhiteoutKind::kIgnored, {}};
    below_whiteout = below_whiteout || component.starts_with(kPrefix);
    rest.remove_prefix(end + 1);
  }
  if (below_whiteout) return Error::invalid("path below a whiteout");
  if (!name.starts_with(kPrefix)) return Whiteout{};
  if (name == kOpaqueName) return Whiteout{WhiteoutKind::kOpaque, std::string(directory)};
  if (name.starts_with(kMetaPrefix)) return Whiteout{WhiteoutKind::kIgnored, {}};
  std::string_view const hidden = name.substr(kPrefix.size());
  if (hidden.empty()) return Error::invalid("whiteout without a name");
  if (hidden == "." || hidden == "..") return Error::invalid("whiteout of \".\" or \"..\"");
  return Whiteout{WhiteoutKind::kHides, std::string(directory).append(hidden)};
}

}  // namespace lcfs::oci
