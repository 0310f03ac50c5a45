// SPDX-License-Identifier: Apache-2.0
// The program as a function.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/io.h"

namespace CLI {
class App;
}

namespace lcfs::cli {

// Exit codes of every command but fsck and diff.
enum Exit : int {
  kOk = 0,
  kFailed = 1,
  kUsage = 2,
  kDamage = 4 /* verify: something is damaged */,
  kPipe = 141 /* a server's: the output's reader went away */
};
// Those of diff, as diff(1).
enum DiffExit : int { kSame = 0, kDiffer = 1, kTrouble = 2 };
// Those of fsck, as fsck(8).
enum FsckExit : int {
  kFsckClean = 0,
  kFsckCorrected = 1,
  kFsckDamage = 4,
  kFsckOperation = 8,
  kFsckUsage = 16,
  kFsckCancelled = 32
};
// Those of mount.lcfs, as mount(8).
enum MountExit : int { kMountOk = 0, kMountUsage = 1, kMountSystem = 2, kMountFailed = 32 };

// args[0] is the name the program was called by: "mkfs.lcfs" and "fsck.lcfs" stand for the
// subcommand, "mount.lcfs" and "mount.fuse.lcfs" take the arguments that mount(8) gives its
// helpers.  Returns the exit code. `served`: of a server that runs the command for a client; null:
// this is the program.
struct ServedStore;
int run(std::vector<std::string> args, Io io, ServedStore const* served = nullptr);

struct Context;
// The parser with all its commands; tests compare it with the man pages.
std::unique_ptr<CLI::App> make_app(Context& context);

}  // namespace lcfs::cli
