// SPDX-License-Identifier: Apache-2.0
// The platform to select from a multi-platform image: "os/arch[/variant]".
// Specification: OCI image-spec image-index.md, "platform"; GOOS and GOARCH values.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/manifest.h"

namespace lcfs::oci {

Result<Platform> parse_platform(std::string_view text);
[[nodiscard]] std::string platform_text(Platform const& platform);
// The platform that this machine runs best.
[[nodiscard]] Platform host_platform();

// How well `offered` matches `wanted`: 0 is exact, larger is worse, negative does not match.
[[nodiscard]] int platform_rank(Platform const& wanted, Platform const& offered);

}  // namespace lcfs::oci
