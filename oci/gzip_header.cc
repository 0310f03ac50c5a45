// SPDX-License-Identifier: Apache-2.0
#include "oci/gzip_header.h"

#include <isa-l/crc.h>

namespace lcfs::oci {
namespace {

constexpr std::uint8_t kHasChecksum = 0x02, kHasExtra = 0x04, kHasName = 0x08, kHasComment = 0x10,
                       kReserved = 0xe0;

Error damaged() { return Error::corrupt("damaged gzip header"); }

}  // namespace

Result<bool> GzipHeader::feed(std::span<std::byte const>& in) {
  while (state_ != State::kDone && !in.empty()) {
    auto const byte = std::to_integer<std::uint8_t>(in[0]);
    in = in.subspan(1);
    LCFS_TRY(take(byte));
  }
  return state_ == State::kDone;
}

Status GzipHeader::take(std::uint8_t byte) {
  std::uint32_t const crc_before = crc_;
  crc_ = crc32_gzip_refl(crc_, &byte, 1);
  switch (state_) {
    case State::kFixed: return take_fixed(byte);
    case State::kExtraSize:
      number_ |= std::uint32_t{byte} << (8 * at_);
      if (++at_ < 2) return {};
      at_ = 0;
      if (number_ == 0)
        next(State::kExtra);
      else
        state_ = State::kExtra;
      return {};
    case State::kExtra:
      if (++at_ == number_) next(State::kExtra);
      return {};
    case State::kName:
    case State::kComment:
      if (byte == 0) next(state_);
      return {};
    case State::kChecksum:
      crc_ = crc_before;  // the checksum does not cover itself
      number_ |= std::uint32_t{byte} << (8 * at_);
      if (++at_ < 2) return {};
      if (number_ != (crc_ & 0xffffu)) return Error::corrupt("gzip header checksum mismatch");
      state_ = State::kDone;
      return {};
    case State::kDone: break;
  }
  return {};
}

Status GzipHeader::take_fixed(std::uint8_t byte) {
  switch (at_++) {
    case 0:
    case 1:
      no_member_ = byte != (at_ == 1 ? 0x1f : 0x8b);
      if (no_member_) return damaged();
      break;
    case 2:
      if (byte != 8) return Error::unsupported("gzip compression method is not deflate");
      break;
    case 3:
      flags_ = byte;
      if ((flags_ & kReserved) != 0) return damaged();
      break;
    case 9:  // after time, extra flags and system
      next(State::kFixed);
      break;
    default: break;
  }
  return {};
}

void GzipHeader::next(State from) {
  at_ = 0;
  number_ = 0;
  if (from < State::kExtraSize && (flags_ & kHasExtra) != 0)
    state_ = State::kExtraSize;
  else if (from < State::kName && (flags_ & kHasName) != 0)
    state_ = State::kName;
  else if (from < State::kComment && (flags_ & kHasComment) != 0)
    state_ = State::kComment;
  else if (from < State::kChecksum && (flags_ & kHasChecksum) != 0)
    state_ = State::kChecksum;
  else
    state_ = State::kDone;
}

}  // namespace lcfs::oci
