// SPDX-License-Identifier: Apache-2.0
// Sizes (format/size_text.h) and times between text and numbers.
#pragma once

#include <cstdint>
#include <string>

#include "format/records.h"
#include "format/size_text.h"

namespace lcfs::cli {

using lcfs::parse_size;
using lcfs::size_text;

// "2024-05-01T10:00:00Z", and with a blank and no zone for people; "-" for 0.
std::string time_text(std::int64_t ns);
std::string time_json(std::int64_t ns);
// "2024-05-01 10:00:00.123456789", UTC; seconds since 1970 where the calendar ends.
std::string timestamp_text(Timestamp const& time);

}  // namespace lcfs::cli
