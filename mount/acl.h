// SPDX-License-Identifier: Apache-2.0
// POSIX ACLs as xattrs hold them (system.posix_acl_access and _default): what acl(5) says they mean
// together with modes. The bytes: le32 version 2, then entries {le16 tag, le16 permissions, le32
// id}.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/result.h"

namespace lcfs::mount {

inline constexpr std::string_view kAclAccess = "system.posix_acl_access";
inline constexpr std::string_view kAclDefault = "system.posix_acl_default";

class Acl {
 public:
  // EINVAL if the bytes are no valid ACL: order, duplicates, entries that must be there.
  static Result<Acl> parse(std::string_view bytes);
  [[nodiscard]] std::string bytes() const;

  // The nine permission bits that stand for it.
  [[nodiscard]] std::uint32_t mode() const;
  // A mode says all of it: no named entries, no mask.
  [[nodiscard]] bool trivial() const;
  // After chmod: owner, mask (or group) and others become what the mode says.
  void set_mode(std::uint32_t mode);
  // What a new file under this default ACL gets: the permissions of `mode` that the ACL does not
  // grant are taken from the ACL's entries, and the result is the file's mode.  (acl(5), "object
  // creation and default ACLs".)
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
