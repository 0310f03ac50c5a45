// SPDX-License-Identifier: Apache-2.0
// When memory runs out (ulimit -v, a cgroup that refuses, no room for a thread): the process says
// so and ends.  What it did not make durable is as if it had not been, as after a power cut, so
// there is nothing to clean up.
#pragma once

#include <string_view>

namespace lcfs::cli {

// For the whole process, all threads; what is not about memory ends in abort(3), as before.  Only
// main() calls it. The exit code is that of a failure, or, for fsck, fsck(8)'s 8.
void end_when_out_of_memory(int argc, char const* const* argv);

}  // namespace lcfs::cli
