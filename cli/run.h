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

// Exit codes of every command but fsck.
enum Exit : int { kOk = 0, kFailed = 1, kUsage = 2 };
// Those of fsck, as fsck(8).
enum FsckExit : int { kFsckClean = 0, kFsckDamage = 4, kFsckOperation = 8, kFsckUsage = 16 };

// args[0] is the name the program was called by: "mkfs.lcfs" and "fsck.lcfs" stand for the subcommand.  Returns the
// exit code.
int run(std::vector<std::string> args, Io io);

struct Context;
// The parser with all its commands; tests compare it with the man pages.
std::unique_ptr<CLI::App> make_app(Context& context);

}  // namespace lcfs::cli
