// SPDX-License-Identifier: Apache-2.0
#include "cli/layer_paths.h"

#include "cli/print.h"
#include "cli/store_arg.h"

namespace lcfs::cli {

CLI::Option* add_layer_paths(CLI::App& command, LayerPaths& into, std::string const& paths_help) {
  add_store_option(command, into.store);
  add_at_option(command, into.at);
  command.add_option("LAYER", into.layer, kLayerHelp)->required();
  return command.add_option("PATH", into.paths, paths_help);
}

Status for_each_path(LayerPaths const& where, Context& context, std::string_view command,
                     std::function<Status(Layer&, std::string const& path)> const& show) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, where.store, Access::kReadOnly, where.at));
  LCFS_TRY_ASSIGN(auto const id, store->resolve_layer(where.layer));
  LCFS_TRY_ASSIGN(auto const layer, store->layer(id));
  for_each_name(where.paths, context, command,
                [&](std::string const& path) { return show(*layer, path); });
  return Ok{};
}

}  // namespace lcfs::cli
