// SPDX-License-Identifier: Apache-2.0
// POSIX.1e access control lists: the text that tars hold to the bytes that Linux keeps in
// system.posix_acl_access and system.posix_acl_default.
// Specification: acl(5), "LONG TEXT FORM" and "SHORT TEXT FORM", with ":ID" behind as star(1) and
// bsdtar write it; include/uapi/linux/posix_acl_xattr.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "format/result.h"

namespace lcfs::importer {

// "user::rwx,user:joe:r-x:1001,group::r-x,mask::r-x,other::r--" (commas or newlines) to the xattr's
// value, version 2, entries in the order the kernel wants.  A missing mask is the union of what it
// would mask.  Names count only with an id: nobody here knows the image's users by name
// (kUnsupported).  "" if it says no more than a mode does.
Result<std::string> acl_xattr(std::string_view text);

// The nine permission bits that a file with this access ACL has: owner, mask, others.  `xattr`
// comes from acl_xattr(), not empty. Linux keeps both the same; in bsdtar's headers the bits of the
// group stand where those of the mask should.
std::uint32_t acl_permissions(std::string_view xattr);

}  // namespace lcfs::importer
