// SPDX-License-Identifier: Apache-2.0
// Names from archives in messages: one line, whatever bytes they hold.
#pragma once

#include <string>
#include <string_view>

#include "format/result.h"

namespace lcfs::importer {

// `name` with control characters, backslashes and invalid UTF-8 as \xNN; cut after 300 bytes.
[[nodiscard]] std::string printable(std::string_view name);

// `error` as seen in `member` of `archive`: path "ARCHIVE: MEMBER"; a path that it had goes to the
// front of the message.
[[nodiscard]] Error in_member(Error error, std::string_view archive, std::string_view member);

}  // namespace lcfs::importer
