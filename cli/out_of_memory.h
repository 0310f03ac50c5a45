// SPDX-License-Identifier: Apache-2.0
// What happens when memory runs out (ulimit -v, a cgroup's limit, no memory for a thread): the
// process prints one line and exits.  Changes that are not durable are lost, as in a power cut, so
// nothing has to be cleaned up.
#pragma once

#include <string_view>

namespace lcfs::cli {

// Installs this for all threads of the process; other uncaught exceptions still end in abort(3).
// Call it once, from main().  The exit code is 1, or 8 if the arguments call fsck.
void end_when_out_of_memory(int argc, char const* const* argv);

}  // namespace lcfs::cli
