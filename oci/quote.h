// SPDX-License-Identifier: Apache-2.0
// Names from archives for messages: one line, whatever bytes they contain.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace lcfs::oci {

// `name` with control characters, backslashes and invalid UTF-8 as \xNN; cut after 300 bytes.
[[nodiscard]] std::string printable(std::string_view name);

// `error` in `member` of `archive`: sets the path to "ARCHIVE: MEMBER".  A path that it had moves
// to the front of the message.
[[nodiscard]] Error in_member(Error error, std::string_view archive, std::string_view member);

}  // namespace lcfs::oci
