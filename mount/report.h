// SPDX-License-Identifier: Apache-2.0
// Reports of a mount about itself, as text.
#pragma once

#include <string>

#include "base/result.h"

namespace lcfs::mount {

class Mount;
struct Served;

enum class Report : std::uint8_t {
  kStatsText,        // a table for people
  kStatsJson,        // one object
  kStatsPrometheus,  // exposition format 0.0.4
  kSpace,            // use of space: JSON
  kLayers,           // every layer: JSON
};

// Makes a report of one layer, or of the whole mount if `served` is null.  `clear`: then resets the
// counters.  kStatsText and kStatsJson of a layer walk its directories.  Errors: those of reading
// the layer.  Threads: any.
Result<std::string> make_report(Mount& mount, Report what, Served* served, bool clear);

}  // namespace lcfs::mount
