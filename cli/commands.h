// SPDX-License-Identifier: Apache-2.0
// One function per subcommand.  It adds the command's options to the parser, and a callback that
// calls the engine, prints the result and sets the exit code.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "cli/io.h"
#include "cli/run.h"
#include "mount/control.h"
#include "mount/server.h"

namespace lcfs::cli {

// The store that a mount's server has open, while the server runs a command for a client.
struct ServedStore {
  mount::Serving const& serving;
  mount::StoreIdentity identity{};
};

struct Context {
  Io& io;
  int exit = kOk;                       // set by the callback that ran
  std::vector<std::string> args{};      // the whole command line
  ServedStore const* served = nullptr;  // set while a server runs the command
  bool forwarded = false;  // a server ran the command: `exit` is its result, all output was written
};

void add_mkfs(CLI::App& app, Context& context);
void add_import(CLI::App& app, Context& context);
void add_image(CLI::App& app, Context& context);
void add_layer(CLI::App& app, Context& context);
void add_layer_tree(CLI::App& layer_group, Context& context);
void add_layer_history(CLI::App& layer_group, Context& context);
void add_layer_changes(CLI::App& layer_group, Context& context);
void add_layer_commit(CLI::App& layer_group, Context& context);
void add_layer_squash(CLI::App& layer_group, Context& context);
void add_layer_rm(CLI::App& layer_group, Context& context);
void add_image_changes(CLI::App& image_group, Context& context);
void add_completion(CLI::App& app, Context& context);
void add_ls(CLI::App& app, Context& context);
void add_cat(CLI::App& app, Context& context);
void add_stat(CLI::App& app, Context& context);
void add_extract(CLI::App& app, Context& context);
void add_export(CLI::App& app, Context& context);
void add_diff(CLI::App& app, Context& context);
void add_df(CLI::App& app, Context& context);
void add_log(CLI::App& app, Context& context);
void add_undo(CLI::App& app, Context& context);
void add_verify(CLI::App& app, Context& context);
void add_why(CLI::App& app, Context& context);
void add_fsck(CLI::App& app, Context& context);
void add_mount(CLI::App& app, Context& context);
void add_umount(CLI::App& app, Context& context);
void add_sync(CLI::App& app, Context& context);
void add_grow(CLI::App& app, Context& context);
void add_stats(CLI::App& app, Context& context);

// The names under which mount(8) calls the program, and the command it then runs.
bool is_mount_helper(std::string_view name);
int run_mount_helper(std::vector<std::string> const& args, Context& context);

std::string version_text();

}  // namespace lcfs::cli
