// SPDX-License-Identifier: Apache-2.0
// Sizes and times between text and numbers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "format/records.h"
#include "format/result.h"

namespace lcfs::cli {

// "10G", "512MiB", "4k", "4096", "1.5T": powers of 1024 (K M G T P E, also with B or iB behind, any case); powers of
// 1000 do not exist here.  Errors: kInvalid.
Result<std::uint64_t> parse_size(std::string_view text);

// "512 B", "4.0 KiB", "10 GiB": three digits.
std::string size_text(std::uint64_t bytes);

// "2024-05-01T10:00:00Z", and with a blank and no zone for people; "-" for 0.
std::string time_text(std::int64_t ns);
std::string time_json(std::int64_t ns);
// "2024-05-01 10:00:00.123456789", UTC; seconds since 1970 where the calendar ends.
std::string timestamp_text(Timestamp const& time);

}  // namespace lcfs::cli
