// SPDX-License-Identifier: Apache-2.0
// What the server has to say: to the journal once it is in the background, to standard error
// before.
#pragma once

#include <string_view>

namespace lcfs::mount {

enum class Level : int { kError = 3, kWarning = 4, kInfo = 6 };  // as syslog(3)

// From here on to syslog.
void log_to_syslog();
// One line.  Thread-safe.  At most 50 a second; how many were left out is told.
void log(Level level, std::string_view line);

}  // namespace lcfs::mount
