// SPDX-License-Identifier: Apache-2.0
// Commands on a mounted store: the client asks the mount's server to run them, and the server runs
// them.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <fstream>
#include <utility>

#include "cli/fd_stream.h"
#include "cli/serve.h"
#include "cli/signals.h"
#include "cli/store_arg.h"

namespace lcfs::cli {
namespace {

// The environment variables that a command can read, besides LCFS_STORE.
constexpr char const* kForwarded[] = {
    "LCFS_RUNTIME_DIR", "SOURCE_DATE_EPOCH", "TMPDIR", "NO_COLOR", "TERM", "COLUMNS",
    "LC_ALL",           "LC_CTYPE",          "LANG"};

// Read from /proc, because umask(2) can only read it by changing it.
mode_t current_umask() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("Umask:"))
      return static_cast<mode_t>(std::strtoul(line.c_str() + 6, nullptr, 8));
  return 022;
}

mount::ControlCommand command_for(Context const& context, std::string const& path,
                                  std::vector<std::string> args) {
  mount::ControlCommand command;
  command.args = std::move(args);
  command.umask = current_umask();
  // The server's user can have a different default store.
  command.variables.emplace_back("LCFS_STORE", path);
  if (context.io.env)
    for (char const* name : kForwarded)
      if (auto value = context.io.env(name))
        command.variables.emplace_back(name, *std::move(value));
  return command;
}

}  // namespace

Result<bool> forward(Context& context, std::string const& path) {
  return forward(context, path, context.args);
}

Result<bool> forward(Context& context, std::string const& path, std::vector<std::string> args) {
  auto const& io = context.io;
  if (context.served != nullptr || io.out_fd < 0 || io.err_fd < 0) return false;
  LCFS_TRY_ASSIGN(auto const store, mount::store_identity(path));
  io.out.flush();
  io.err.flush();
  // A command that does not handle signals is killed by them, and the server notices that.
  auto const answer = mount::control_call(mount::control_socket_paths(store, io.env), store.owner,
                                          command_for(context, path, std::move(args)),
                                          {io.in_fd, io.out_fd, io.err_fd}, StopOnSignal::active());
  if (!answer) {
    auto error = answer.error();
    if (error.path.empty()) error.path = path;
    return error;
  }
  if (!*answer) return false;
  context.exit = **answer;
  return true;
}

int run_for_client(mount::ControlRequest& request, mount::Serving const& serving,
                   mount::StoreIdentity const& identity) {
  FdStream out(request.out.get(), &request.stop);
  FdStream err(request.err.get(), &request.stop);
  err << std::unitbuf;
  Io io{out, err, isatty(request.err.get()) == 1,
        [&request](char const* name) { return request.variable(name); }};
  io.in_fd = request.in.get();
  io.out_fd = request.out.get();
  io.err_fd = request.err.get();
  io.stop = &request.stop;
  ServedStore const served{serving, identity};
  try {
    return run(request.command.args, io, &served);
  } catch (std::exception const& error) {  // out of memory: fails this command, not all mounts
    err << fmt::format("lcfs: {}\n", error.what());
    return kFailed;
  }
}

}  // namespace lcfs::cli
