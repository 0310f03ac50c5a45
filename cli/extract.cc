// SPDX-License-Identifier: Apache-2.0
// lcfs extract: writes a layer's files to a directory of the host.
#include "extract/extract.h"

#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/print.h"
#include "cli/signals.h"
#include "cli/store_arg.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::uint64_t at = 0;
  std::string store{}, layer{}, directory{};
  bool force = false, no_same_owner = false, rootless = false, quiet = false, json = false;
};

Status run_extract(Options const& options, Context& context) {
  StopOnSignal const signals(context.io);
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadOnly, options.at));
  LCFS_TRY_ASSIGN(auto const id, store->resolve_layer(options.layer));
  LCFS_TRY_ASSIGN(auto const layer, store->layer(id));
  extract::ExtractOptions how;
  how.force = options.force;
  how.same_owner = !options.no_same_owner && !options.rootless;
  how.privileged = !options.rootless;
  how.stop = &signals.stop();
  how.problem = [&context](Error const& error) { warn(context, "extract", error.text()); };
  LCFS_TRY_ASSIGN(auto const done,
                  extract::extract_tree(*layer, layer->root(), options.directory, how));
  if (done.problems != 0) context.exit = kFailed;
  if (options.json)
    print_json(context.io.out,
               {{"entries", done.entries}, {"bytes", done.bytes}, {"problems", done.problems}});
  else if (!options.quiet)
    context.io.err << fmt::format(
        "lcfs extract: {} entries, {} bytes{}\n", done.entries, done.bytes,
        done.problems == 0 ? "" : fmt::format(", {} problems", done.problems));
  return Ok{};
}

}  // namespace

void add_extract(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* cmd = app.add_subcommand("extract", "Write a layer's files to a directory");
  add_store_option(*cmd, options->store);
  add_at_option(*cmd, options->at);
  cmd->add_flag("--force", options->force,
                "Allow DIR to contain files; replace those of the same name");
  cmd->add_flag("--no-same-owner", options->no_same_owner, "Do not restore owners");
  cmd->add_flag("--rootless", options->rootless,
                "Restore no owners or devices, and only user.* attributes");
  cmd->add_flag("-q,--quiet", options->quiet, "Do not print a summary");
  cmd->add_flag("--json", options->json, "Print the summary as one JSON object");
  cmd->add_option("LAYER", options->layer, kLayerHelp)->required();
  cmd->add_option("DIR", options->directory, "Output directory, empty or new")->required();
  cmd->footer("Example:\n  lcfs extract debian:12 /srv/debian");
  cmd->callback([options, &context] {
    if (auto done = run_extract(*options, context); !done)
      context.exit = fail(context, "extract", done.error());
  });
}

}  // namespace lcfs::cli
