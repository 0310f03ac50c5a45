// SPDX-License-Identifier: Apache-2.0
#include "base/result.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace lcfs {

namespace {

Error make(Errc code, std::string message) {
  return Error{.code = code, .message = std::move(message)};
}

Errc code_of(int sys) {
  switch (sys) {
    case ENOSPC:
    case EDQUOT: return Errc::kNoSpace;
    case ENOENT:
    case ENOTDIR: return Errc::kNotFound;
    case EEXIST: return Errc::kExists;
    default: return Errc::kIo;
  }
}

}  // namespace

Error Error::invalid(std::string message) { return make(Errc::kInvalid, std::move(message)); }
Error Error::corrupt(std::string message) { return make(Errc::kCorrupt, std::move(message)); }
Error Error::unsupported(std::string message) {
  return make(Errc::kUnsupported, std::move(message));
}
Error Error::not_found(std::string message) { return make(Errc::kNotFound, std::move(message)); }
Error Error::exists(std::string message) { return make(Errc::kExists, std::move(message)); }
Error Error::no_space(std::string message) { return make(Errc::kNoSpace, std::move(message)); }
Error Error::busy(std::string message) { return make(Errc::kBusy, std::move(message)); }
Error Error::read_only(std::string message) { return make(Errc::kReadOnly, std::move(message)); }
Error Error::interrupted() { return make(Errc::kInterrupted, "interrupted"); }

Error Error::io(std::string message, int sys) {
  return Error{.code = code_of(sys), .message = std::move(message), .sys = sys};
}

Error Error::in(std::string where) && {
  path = std::move(where);
  return std::move(*this);
}

Error Error::at(std::uint64_t byte) && {
  offset = byte;
  return std::move(*this);
}

Error Error::as(int answers) && {
  answer = answers;
  return std::move(*this);
}

std::string Error::text(Offsets offsets) const {
  std::string out;
  auto add = [&out](std::string_view part) {
    if (part.empty()) return;
    if (!out.empty()) out += ": ";
    out += part;
  };
  add(path);
  if (offsets == Offsets::kShow && offset != kNoOffset) add(fmt::format("offset {:#x}", offset));
  add(message);
  if (sys != 0) add(std::strerror(sys));
  return out;
}

int Error::to_errno() const {
  if (sys != 0) return sys;
  if (answer != 0) return answer;
  switch (code) {
    case Errc::kIo:
    case Errc::kCorrupt: return EIO;
    case Errc::kUnsupported: return EOPNOTSUPP;
    case Errc::kInvalid: return EINVAL;
    case Errc::kNotFound: return ENOENT;
    case Errc::kExists: return EEXIST;
    case Errc::kNoSpace: return ENOSPC;
    case Errc::kBusy: return EBUSY;
    case Errc::kReadOnly: return EROFS;
    case Errc::kInterrupted: return EINTR;
    case Errc::kFs: return EIO;
  }
  return EIO;
}

}  // namespace lcfs
