// SPDX-License-Identifier: Apache-2.0
// The header of a gzip member, parsed in pieces.  Specification: RFC 1952, 2.3.
// ISA-L also has a parser, but it computes a wrong header CRC when the header arrives in pieces
// (libisal 2.30).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"

namespace lcfs::oci {

class GzipHeader {
 public:
  // Takes from the front of `in`.  True: the header is over, deflate data comes next.
  // Errors, without offset: kCorrupt, or kUnsupported for a method that is not deflate.
  Result<bool> feed(std::span<std::byte const>& in);
  // True if the magic was wrong, so this is not a gzip member.
  [[nodiscard]] bool no_member() const { return no_member_; }

 private:
  enum class State : std::uint8_t { kFixed, kExtraSize, kExtra, kName, kComment, kChecksum, kDone };

  Status take(std::uint8_t byte);
  Status take_fixed(std::uint8_t byte);
  void next(State from);  // goes to the state after `from`, as the flags say

  State state_ = State::kFixed;
  std::uint32_t at_ = 0;      // bytes of this state that were taken
  std::uint32_t number_ = 0;  // little-endian number being read
  std::uint32_t crc_ = 0;     // of the header so far
  std::uint8_t flags_ = 0;
  bool no_member_ = false;
};

}  // namespace lcfs::oci
