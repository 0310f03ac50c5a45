// SPDX-License-Identifier: Apache-2.0
// Sizes (base/size_text.h) and times as text.
#pragma once

#include <cstdint>
#include <string>

#include "base/size_text.h"
#include "format/records.h"

namespace lcfs::cli {

using lcfs::parse_size;
using lcfs::size_text;

// Nanoseconds since 1970 as "2024-05-01 10:00:00" in UTC; "-" for 0.
std::string time_text(std::int64_t ns);
// The same as "2024-05-01T10:00:00Z".
std::string time_json(std::int64_t ns);
// "2024-05-01 10:00:00.123456789" in UTC; "@SECONDS.NANOSECONDS" beyond the range of the calendar.
std::string timestamp_text(format::Timestamp const& time);

}  // namespace lcfs::cli
