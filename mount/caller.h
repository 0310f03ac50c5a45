// SPDX-License-Identifier: Apache-2.0
// Who is behind a request, beyond what the request says.
#pragma once

#include <linux/fuse.h>

#include <string_view>

namespace lcfs::mount {

// May the caller keep setuid and setgid of a file that it changes (CAP_FSETID; capabilities(7))?
// The kernel says so with some requests, for whoever it is told the request is from; overlayfs
// passes everything on as root.  Here it is asked of /proc for the thread that waits for the
// answer.  One that can't be seen, or is root of another user namespace only, may not. Slow (a file
// is read): to be asked only where there is something to keep.
[[nodiscard]] bool keeps_privileges(fuse_in_header const& header);

// The same of the text of a /proc/PID/status.
[[nodiscard]] bool status_keeps_privileges(std::string_view status);

}  // namespace lcfs::mount
