// SPDX-License-Identifier: Apache-2.0
// Completion of command lines.  The shells' completion scripts ask the program, and the parser
// itself supplies the answer, so completion always matches the commands.
#pragma once

#include <string>
#include <vector>

#include "cli/commands.h"

namespace lcfs::cli {

// The first argument with which the scripts call the program.  It is hidden: users do not type it.
inline constexpr char kCompleteWord[] = "__complete";

struct Completion {
  std::string word{}, help{};
};

// The possible next words that begin with the last of `words`.  `words` is the command line without
// the program's name, up to the word being typed, which can be empty.  An empty result means that
// there is nothing to complete, or that the word is the name of a file.
std::vector<Completion> complete(CLI::App& app, Context& context,
                                 std::vector<std::string> const& words);

// Runs "lcfs __complete WORD...": prints one completion per line, followed by a tab and its help.
// Returns the exit code.
int run_complete(std::vector<std::string> const& args, Context& context);

}  // namespace lcfs::cli
