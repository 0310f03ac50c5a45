// SPDX-License-Identifier: Apache-2.0
// Encodes and decodes the messages of the control socket.  Specification: mount/control.h.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>

#include "mount/control.h"

namespace lcfs::mount {

struct ControlAnswer {
  int exit_code = 0;
  ControlRefusal refusal = ControlRefusal::kNone;
  std::string text{};
};

struct ControlHead {
  std::uint32_t version = 0;
  std::uint32_t length = 0;  // of the payload; at most kControlPayload
};

// A header and its payload.  kInvalid if the command cannot be sent: too long, or with a zero byte.
Result<std::string> encode_command(ControlCommand const& command);
std::string encode_answer(ControlAnswer const& answer);

// Errors: kInvalid (magic, length), kUnsupported (version).
Result<ControlHead> decode_head(std::span<std::byte const, kControlHeader> bytes);
// Decode a payload.  Errors: kInvalid.
Result<ControlCommand> decode_command(std::span<std::byte const> payload);
Result<ControlAnswer> decode_answer(std::span<std::byte const> payload);

}  // namespace lcfs::mount
