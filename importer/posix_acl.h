// SPDX-License-Identifier: Apache-2.0
// Converts POSIX.1e access control lists from the text in tars to the bytes that Linux stores in
// system.posix_acl_access and system.posix_acl_default.
// Specification: acl(5), "LONG TEXT FORM" and "SHORT TEXT FORM", followed by ":ID" as star(1) and
// bsdtar write it; include/uapi/linux/posix_acl_xattr.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace lcfs::importer {

// "user::rwx,user:joe:r-x:1001,group::r-x,mask::r-x,other::r--" (commas or newlines) to the xattr's
// value, version 2, entries in the order that the kernel requires.  A missing mask is the union of
// what it would mask.  Names need an id, because the image's user database is not read
// (kUnsupported without one).  "" if the ACL is equivalent to a mode.
Result<std::string> acl_xattr(std::string_view text);

// The nine permission bits that a file with this access ACL has: owner, mask, others.  `xattr`
// comes from acl_xattr(), not empty. Linux keeps both the same; in bsdtar's headers the bits of the
// group are in the place of those of the mask.
std::uint32_t acl_permissions(std::string_view xattr);

}  // namespace lcfs::importer
