// SPDX-License-Identifier: Apache-2.0
// Names that people give images.
// Specification: github.com/distribution/reference, "Grammar"; without digests, which are no names.
#pragma once

#include <string>
#include <string_view>

#include "format/result.h"

namespace lcfs::importer {

// The name with its tag ("x" is "x:latest"), or kInvalid with what is wrong.
Result<std::string> full_image_name(std::string_view given);

}  // namespace lcfs::importer
