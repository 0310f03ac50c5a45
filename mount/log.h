// SPDX-License-Identifier: Apache-2.0
// Messages of the server: to syslog once it runs in the background, to standard error before.
#pragma once

#include <string_view>

namespace lcfs::mount {

enum class Level : int { kError = 3, kWarning = 4, kInfo = 6 };  // as syslog(3)

// Sends later messages to syslog.
void log_to_syslog();
// Logs one line.  At most 50 lines per second are logged; the number of suppressed ones is logged
// too. Threads: any.
void log(Level level, std::string_view line);

}  // namespace lcfs::mount
