// SPDX-License-Identifier: Apache-2.0
// SOURCE_DATE_EPOCH, for commands whose output must not tell when it was made.
#pragma once

#include <cstdint>
#include <optional>

#include "cli/io.h"
#include "format/result.h"

namespace lcfs::cli {

// Seconds since 1970; nothing if it is not set.  kInvalid if it is no number.
Result<std::optional<std::int64_t>> source_date_epoch(Io const& io);

}  // namespace lcfs::cli
