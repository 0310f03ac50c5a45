// SPDX-License-Identifier: Apache-2.0
// POSIX ACLs in the format of the xattrs system.posix_acl_access and system.posix_acl_default, and
// how they combine with modes. Specification: acl(5).  Bytes: le32 version 2, then entries {le16
// tag, le16 permissions, le32 id}.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace lcfs::mount {

inline constexpr std::string_view kAclAccess = "system.posix_acl_access";
inline constexpr std::string_view kAclDefault = "system.posix_acl_default";

class Acl {
 public:
  // EINVAL if the bytes are not a valid ACL: wrong order, duplicates, missing entries.
  static Result<Acl> parse(std::string_view bytes);
  [[nodiscard]] std::string bytes() const;

  // The nine permission bits that correspond to it.
  [[nodiscard]] std::uint32_t mode() const;
  // Whether the mode fully expresses it: no named entries, no mask.
  [[nodiscard]] bool trivial() const;
  // After chmod: sets owner, mask (or group) and others from the mode.
  void set_mode(std::uint32_t mode);
  // Turns this default ACL into the access ACL of a new file: removes permissions that `mode` does
  // not grant, and returns the file's mode.  (acl(5), "Object creation and default ACLs".)
  std::uint32_t inherit(std::uint32_t mode);

 private:
  struct Entry {
    std::uint16_t tag = 0, permissions = 0;
    std::uint32_t id = 0;
  };
  [[nodiscard]] Entry const* find(std::uint16_t tag) const;
  [[nodiscard]] Entry* find(std::uint16_t tag);
  std::vector<Entry> entries_;
};

}  // namespace lcfs::mount
