// SPDX-License-Identifier: Apache-2.0
// Which of several platforms' images is meant: "os/arch[/variant]".
// Specification: OCI image-spec image-index.md, "platform"; GOOS and GOARCH values.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "format/result.h"
#include "importer/oci.h"

namespace lcfs::importer {

Result<Platform> parse_platform(std::string_view text);
[[nodiscard]] std::string platform_text(Platform const& platform);
// What this machine runs best.
[[nodiscard]] Platform host_platform();

// How well `offered` serves who wants `wanted`: 0 is perfect, more is worse, negative is not at
// all.
[[nodiscard]] int platform_rank(Platform const& wanted, Platform const& offered);

}  // namespace lcfs::importer
