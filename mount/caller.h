// SPDX-License-Identifier: Apache-2.0
// What a request does not contain about its caller.
#pragma once

#include <linux/fuse.h>

#include <string_view>

namespace lcfs::mount {

// Whether the caller keeps setuid and setgid of a file that it changes (CAP_FSETID;
// capabilities(7)). The kernel states this in some requests, but for overlayfs it states it for
// root.  This function reads /proc for the thread that waits for the answer.  False for a thread
// that is not visible, or that is root only in another user namespace.  Slow, because it reads a
// file: call it only if the file has such a bit.
[[nodiscard]] bool keeps_privileges(fuse_in_header const& header);

// The same, from the text of /proc/PID/status.
[[nodiscard]] bool status_keeps_privileges(std::string_view status);

}  // namespace lcfs::mount
