// SPDX-License-Identifier: Apache-2.0
// lcfs sync: writes a checkpoint.
#include "cli/commands.h"
#include "cli/print.h"
#include "cli/store_arg.h"

namespace lcfs::cli {

void add_sync(CLI::App& app, Context& context) {
  auto given = std::make_shared<std::string>();
  auto* cmd = app.add_subcommand("sync", "Flush a store");
  add_store_option(*cmd, *given);
  cmd->footer("Example:\n  lcfs sync");
  cmd->callback([given, &context] {
    auto const sync = [&]() -> Status {
      LCFS_TRY_ASSIGN(auto store, open_store(context, *given, Access::kReadWrite));
      return store.close();
    };
    if (auto done = sync(); !done) context.exit = fail(context, "sync", done.error());
  });
}

}  // namespace lcfs::cli
