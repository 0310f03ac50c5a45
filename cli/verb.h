// SPDX-License-Identifier: Apache-2.0
// Verbs of a command group, such as "layer rm".
#pragma once

#include <fmt/format.h>

#include <memory>

#include "cli/commands.h"
#include "cli/print.h"
#include "cli/store_arg.h"

namespace lcfs::cli {

// Adds the verb `name` to the group, with --store, an example, and `run`, whose error is reported
// under "GROUP NAME".  Options must have a member `store`.
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
