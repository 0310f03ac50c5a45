// SPDX-License-Identifier: Apache-2.0
// lcfs grow: enlarges a store.
#include <fmt/format.h>

#include "cli/checks.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/print.h"
#include "cli/store_arg.h"
#include "cli/units.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::string store{}, size{};
  bool quiet = false, json = false;
};

Status run_grow(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadWrite));
  auto const before = store->space().total * kBlockSize;
  LCFS_TRY(store->grow(options.size.empty() ? 0 : *parse_size(options.size)));
  auto const after = store->space().total * kBlockSize;
  LCFS_TRY(store.close());
  auto& out = context.io.out;
  if (options.json)
    print_json(out, {{"old_size", before}, {"size", after}});
  else if (!options.quiet && before == after)
    out << fmt::format("already {} ({} bytes)\n", size_text(after), after);
  else if (!options.quiet)
    out << fmt::format("{} ({} bytes), was {} ({} bytes)\n", size_text(after), after,
                       size_text(before), before);
  return Ok{};
}

}  // namespace

void add_grow(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* cmd = app.add_subcommand("grow", "Enlarge a store");
  add_store_option(*cmd, options->store);
  cmd->add_flag("-q,--quiet", options->quiet, "Print nothing");
  cmd->add_flag("--json", options->json, "Print one JSON object");
  cmd->add_option("SIZE", options->size,
                  "New size; extends the file (default: size of the file or device)")
      ->check(size_check());
  cmd->footer("Example:\n  lcfs grow 20G");
  cmd->callback([options, &context] {
    if (auto done = run_grow(*options, context); !done)
      context.exit = fail(context, "grow", done.error());
  });
}

}  // namespace lcfs::cli
