// SPDX-License-Identifier: Apache-2.0
// SOURCE_DATE_EPOCH, for commands whose output must not depend on when it was made.
// Specification: reproducible-builds.org/specs/source-date-epoch.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"
#include "cli/io.h"

namespace lcfs::cli {

// Seconds since 1970; nullopt if the variable is unset or empty.  kInvalid if it is not a number.
Result<std::optional<std::int64_t>> source_date_epoch(Io const& io);

}  // namespace lcfs::cli
