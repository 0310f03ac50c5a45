// SPDX-License-Identifier: Apache-2.0
// What a mount tells of itself, as text.
#pragma once

#include <string>

#include "format/result.h"

namespace lcfs::mount {

class Mount;
struct Served;

enum class Report : std::uint8_t {
  kStatsText,        // a table for people
  kStatsJson,        // one object
  kStatsPrometheus,  // exposition format 0.0.4
  kSpace,            // where the blocks are: JSON
  kLayers,           // every layer: JSON
};

// `served` null: of the whole mount.  `clear`: statistics begin anew after that.
Result<std::string> make_report(Mount& mount, Report what, Served* served, bool clear);

}  // namespace lcfs::mount
