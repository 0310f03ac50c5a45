// SPDX-License-Identifier: Apache-2.0
// Sizes between text and numbers, on command lines and in mount options.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace lcfs {

// "10G", "512MiB", "4k", "4096", "1.5T": powers of 1024 (K M G T P E, optionally followed by B or
// iB, in any case).  Units of 1000 are not supported.  Errors: kInvalid.
Result<std::uint64_t> parse_size(std::string_view text);

// "512 B", "4.0 KiB", "10 GiB": about three digits.
std::string size_text(std::uint64_t bytes);

}  // namespace lcfs
