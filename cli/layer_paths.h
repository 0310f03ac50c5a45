// SPDX-License-Identifier: Apache-2.0
// Paths of one layer as arguments: what cat, ls and stat have in common.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/commands.h"
#include "engine/layer.h"

namespace lcfs::cli {

struct LayerPaths {
  std::uint64_t at = 0;  // the restore point to read; 0: the current state
  std::string store{}, layer{};
  std::vector<std::string> paths{};
};

// Adds --store, --at, LAYER and PATH... to the command.  Returns the option PATH, which the caller
// can make required.
CLI::Option* add_layer_paths(CLI::App& command, LayerPaths& into, std::string const& paths_help);

// Opens the layer read-only and calls `show` for each path.  If a path fails, reports it under
// `command`, sets the exit code and continues with the next path.  Returns the errors of opening
// the store and the layer.
Status for_each_path(LayerPaths const& where, Context& context, std::string_view command,
                     std::function<Status(Layer&, std::string const& path)> const& show);

}  // namespace lcfs::cli
