// SPDX-License-Identifier: Apache-2.0
#include "cli/run.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <iostream>
#include <optional>

#include "cli/commands.h"
#include "cli/completion.h"
#include "cli/fd_stream.h"
#include "cli/print.h"
#include "format/layout.h"

#ifndef LCFS_VERSION
#define LCFS_VERSION "unknown"
#endif

namespace lcfs::cli {
namespace {

constexpr char kFooter[] =
    "Example:\n"
    "  skopeo copy docker://debian:12 oci-archive:debian.tar:debian:12\n"
    "  lcfs import debian.tar\n"
    "  lcfs image ls\n\n"
    "Run lcfs COMMAND --help for a command's options, and man lcfs-COMMAND for its manual.";

std::string base_name(std::string const& path) { return path.substr(path.rfind('/') + 1); }

// "mkfs.lcfs ARGS" means "lcfs mkfs ARGS".
void expand_link_name(std::vector<std::string>& args) {
  auto const name = base_name(args.front());
  if (name == "mkfs.lcfs") args.insert(args.begin() + 1, "mkfs");
  if (name == "fsck.lcfs") args.insert(args.begin() + 1, "fsck");
}

// fsck(8) can pass on "-C" without a number, which means 0.
void complete_progress_option(std::vector<std::string>& args) {
  if (args.size() < 2 || args[1] != "fsck") return;
  auto const number = [](std::string const& text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  };
  for (std::size_t i = 2; i < args.size(); ++i) {
    if (args[i] != "-C") continue;
    args[i] = "-C0";
    if (i + 1 < args.size() && number(args[i + 1])) {
      args[i] = "-C" + args[i + 1];
      args.erase(args.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    }
  }
}

// The commands on the command line, from `app` to the last one.
std::vector<CLI::App const*> commands_of(CLI::App const& app) {
  std::vector<CLI::App const*> commands{&app};
  while (!commands.back()->get_subcommands().empty())
    commands.push_back(commands.back()->get_subcommands().front());
  return commands;
}

// What is wrong with a command line, as a message of one line.
std::string usage_message(std::vector<CLI::App const*> commands, CLI::ParseError const& error) {
  auto const leftover = std::find_if(commands.begin(), commands.end(), [](CLI::App const* one) {
    return one->remaining_size() != 0;
  });
  std::string what = error.what();
  if (leftover != commands.end()) {
    auto const words = (*leftover)->remaining();  // in the order in which they were typed
    bool const command = (*leftover)->get_require_subcommand_min() > 0 && words[0][0] != '-';
    if (command || dynamic_cast<CLI::ExtrasError const*>(&error) != nullptr) {
      commands.erase(leftover + 1, commands.end());
      what = fmt::format("{} \"{}\"",
                         command             ? "unknown command"
                         : words.size() == 1 ? "unexpected argument"
                                             : "unexpected arguments",
                         command ? words[0] : fmt::format("{}", fmt::join(words, "\" \"")));
    }
  } else if (dynamic_cast<CLI::ArgumentMismatch const*>(&error) != nullptr &&
             what.ends_with(" missing")) {
    what = fmt::format("option {} needs a value", what.substr(0, what.find(':')));
  } else if (dynamic_cast<CLI::RequiredError const*>(&error) != nullptr &&
             commands.back()->get_require_subcommand_min() > 0) {
    what = "a command is required";
  }
  std::string name = "lcfs";
  for (auto at = commands.begin() + 1; at != commands.end(); ++at) name += " " + (*at)->get_name();
  return fmt::format("{}: {}; see {} --help", name, escape_controls(what), name);
}

int parse(CLI::App& app, std::vector<std::string> const& args, Context& context) {
  try {
    app.parse(std::vector<std::string>{args.rbegin(),
                                       args.rend() - 1});  // CLI11 takes them in reverse order
    return context.exit;
  } catch (CLI::Success const& answer) {  // --help, --version
    app.exit(answer, context.io.out, context.io.err);
    return kOk;
  } catch (CLI::ParseError const& error) {
    auto const commands = commands_of(app);
    context.io.err << usage_message(commands, error) << '\n';
    bool const fsck = commands.size() == 2 && commands.back()->get_name() == "fsck";
    return fsck ? int{kFsckUsage} : int{kUsage};
  }
}

}  // namespace

std::string version_text() {
  return fmt::format("lcfs {} (store format {})", LCFS_VERSION, kFormatVersion);
}

std::unique_ptr<CLI::App> make_app(Context& context) {
  auto app = std::make_unique<CLI::App>("Layered file system for container images.", "lcfs");
  app->set_version_flag("-V,--version", version_text(),
                        "Print the versions of the program and its store format");
  app->set_help_flag("-h,--help", "Print this help");
  app->require_subcommand(1);
  app->footer(kFooter);
  add_mkfs(*app, context);
  add_import(*app, context);
  add_image(*app, context);
  add_layer(*app, context);
  add_ls(*app, context);
  add_cat(*app, context);
  add_stat(*app, context);
  add_extract(*app, context);
  add_export(*app, context);
  add_diff(*app, context);
  add_df(*app, context);
  add_log(*app, context);
  add_undo(*app, context);
  add_verify(*app, context);
  add_why(*app, context);
  add_fsck(*app, context);
  add_mount(*app, context);
  add_umount(*app, context);
  add_sync(*app, context);
  add_grow(*app, context);
  add_stats(*app, context);
  add_completion(*app, context);
  return app;
}

int run(std::vector<std::string> args, Io io, ServedStore const* served) {
  Context context{io};
  if (args.empty()) args.emplace_back("lcfs");
  context.args = args;
  context.served = served;
  if (is_mount_helper(base_name(args.front()))) return run_mount_helper(args, context);
  expand_link_name(args);
  if (args.size() > 2 && args[1] == kCompleteWord) {
    int const code = run_complete(args, context);
    io.out.flush();
    return code;
  }
  complete_progress_option(args);
  auto const app = make_app(context);
  int const code = parse(*app, args, context);
  io.out.flush();
  if (io.out) return code;
  // A separate process would have been killed by SIGPIPE, without a message.
  if (auto const* out = dynamic_cast<FdStream const*>(&io.out);
      out != nullptr && out->error() == EPIPE)
    return kPipe;
  io.err << "lcfs: standard output: cannot write\n";
  if (args.size() > 1 && args[1] == "diff") return kTrouble;
  return args.size() > 1 && args[1] == "fsck" ? int{kFsckOperation} : int{kFailed};
}

Io process_io() {
  std::ios::sync_with_stdio(false);
  std::cin.tie(nullptr);
  Io io{std::cout, std::cerr, isatty(STDERR_FILENO) == 1,
        [](char const* name) -> std::optional<std::string> {
          char const* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
          if (value == nullptr) return std::nullopt;
          return value;
        }};
  io.out_fd = STDOUT_FILENO;
  io.err_fd = STDERR_FILENO;
  return io;
}

}  // namespace lcfs::cli
