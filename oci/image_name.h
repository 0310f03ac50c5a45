// SPDX-License-Identifier: Apache-2.0
// Image names.
// Specification: github.com/distribution/reference, "Grammar"; without digests.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace lcfs::oci {

// The name with its tag ("x" becomes "x:latest").  Errors: kInvalid.
Result<std::string> full_image_name(std::string_view given);

// True if both name the same image, as "x", "x:latest", "library/x" and
// "docker.io/library/x:latest" do.
[[nodiscard]] bool same_image_name(std::string_view a, std::string_view b);

}  // namespace lcfs::oci
