// SPDX-License-Identifier: Apache-2.0
// Verbs of a group, such as "layer rm": a name, help with an example, --store, and the function
// that does it.
#pragma once

#include <fmt/format.h>

#include <memory>

#include "cli/commands.h"
#include "cli/print.h"
#include "cli/store_arg.h"

namespace lcfs::cli {

// Options has a member `store`.  An error of `run` is told under the verb's name.
template <class Options>
CLI::App* add_verb(CLI::App& group, Context& context, std::shared_ptr<Options> const& options,
                   char const* name, char const* help, char const* example,
                   Status (*run)(Options const&, Context&)) {
  auto* cmd = group.add_subcommand(name, help);
  add_store_option(*cmd, options->store);
  cmd->footer(fmt::format("Example:\n  lcfs {} {}", group.get_name(), example));
  cmd->callback([options, &context, what = fmt::format("{} {}", group.get_name(), name), run] {
    if (auto done = run(*options, context); !done) context.exit = fail(context, what, done.error());
  });
  return cmd;
}

}  // namespace lcfs::cli
