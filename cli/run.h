// SPDX-License-Identifier: Apache-2.0
// The program as a function, which tests and servers call.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/io.h"

namespace CLI {
class App;
}

namespace lcfs::cli {

// Exit codes of all commands except fsck and diff.
enum Exit : int {
  kOk = 0,
  kFailed = 1,
  kUsage = 2,
  kDamage = 4 /* verify: damage was found */,
  kPipe = 141 /* only in a server: the reader of the output has gone */
};
// Exit codes of diff, as for diff(1).
enum DiffExit : int { kSame = 0, kDiffer = 1, kTrouble = 2 };
// Exit codes of fsck, as for fsck(8).
enum FsckExit : int {
  kFsckClean = 0,
  kFsckCorrected = 1,
  kFsckDamage = 4,
  kFsckOperation = 8,
  kFsckUsage = 16,
  kFsckCancelled = 32
};
// Exit codes of mount.lcfs, as for mount(8).
enum MountExit : int { kMountOk = 0, kMountUsage = 1, kMountSystem = 2, kMountFailed = 32 };

// Runs a command line and returns the exit code.  args[0] is the name by which the program was
// called: "mkfs.lcfs" and "fsck.lcfs" select the subcommand; "mount.lcfs" and "mount.fuse.lcfs"
// take the arguments that mount(8) passes to its helpers.  `served`: set by a server that runs the
// command for a client.  Threads: any; signals are handled only if io.stop is null, and then by one
// run at a time.
struct ServedStore;
int run(std::vector<std::string> args, Io io, ServedStore const* served = nullptr);

struct Context;
// The parser with all commands, bound to `context`, which must outlive it.
std::unique_ptr<CLI::App> make_app(Context& context);

}  // namespace lcfs::cli
