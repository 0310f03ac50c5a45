// SPDX-License-Identifier: Apache-2.0
// What may stand next on a command line: asked by the shells' completion scripts, answered by the
// parser itself.
#pragma once

#include <string>
#include <vector>

#include "cli/commands.h"

namespace lcfs::cli {

// The word after the program's name that asks for it.  It is no command: nobody types it.
inline constexpr char kCompleteWord[] = "__complete";

struct Completion {
  std::string word{}, help{};
};

// `words`: the command line without the program's name, up to the one that is being typed, which
// may be empty.  Only what begins with that.  Empty: nothing, or names of files.
std::vector<Completion> complete(CLI::App& app, Context& context,
                                 std::vector<std::string> const& words);

// Answers "lcfs __complete WORD...": one a line, with its help behind a tab.
int run_complete(std::vector<std::string> const& args, Context& context);

}  // namespace lcfs::cli
