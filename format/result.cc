// SPDX-License-Identifier: Apache-2.0
#include "format/result.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace lcfs {

std::string Error::text() const {
  std::string out;
  auto add = [&out](std::string_view part) {
    if (part.empty()) return;
    if (!out.empty()) out += ": ";
    out += part;
  };
  add(path);
  if (offset != kNoOffset) add(fmt::format("at byte {:#x}", offset));
  add(message);
  if (sys != 0) add(std::strerror(sys));
  return out;
}

int Error::to_errno() const {
  if (sys != 0) return sys;
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
