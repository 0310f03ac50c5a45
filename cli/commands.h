// SPDX-License-Identifier: Apache-2.0
// One function a subcommand: it adds flags to the parser, and a callback that makes the engine call, prints the answer
// and sets the exit code.
#pragma once

#include <CLI/CLI.hpp>

#include "cli/io.h"
#include "cli/run.h"

namespace lcfs::cli {

struct Context {
  Io& io;
  int exit = kOk;  // set by the callback that ran
};

void add_mkfs(CLI::App& app, Context& context);
void add_import(CLI::App& app, Context& context);
void add_image(CLI::App& app, Context& context);
void add_layer(CLI::App& app, Context& context);
void add_ls(CLI::App& app, Context& context);
void add_cat(CLI::App& app, Context& context);
void add_stat(CLI::App& app, Context& context);
void add_extract(CLI::App& app, Context& context);
void add_df(CLI::App& app, Context& context);
void add_fsck(CLI::App& app, Context& context);

std::string version_text();
// For options that parse_size() reads: anything else is wrong usage.
CLI::Validator size_check();

}  // namespace lcfs::cli
