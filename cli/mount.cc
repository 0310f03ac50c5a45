// SPDX-License-Identifier: Apache-2.0
// lcfs mount, and mount.lcfs in the form that mount(8) calls it.
#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "base/fd.h"
#include "cli/commands.h"
#include "cli/print.h"
#include "cli/serve.h"
#include "cli/store_arg.h"
#include "mount/mount_table.h"

namespace lcfs::cli {
namespace {

// An absolute path, because a server's working directory is / and the mount table shows the store's
// path to everybody.
Result<std::string> absolute(std::string const& path) {
  std::error_code error;
  auto whole = std::filesystem::absolute(path, error);
  if (error) return Error::io("cannot find the working directory", error.value()).in(path);
  return whole.string();
}

// Mounts and serves a store, or changes an existing mount.
Result<int> mount_store(mount::MountOptions options, Context& context) {
  // No client sends this; a server must not fork.
  if (context.served != nullptr) return Error::unsupported("a server cannot run this command");
  LCFS_TRY_ASSIGN(options.directory, absolute(options.directory));
  if (options.remount) {
    LCFS_TRY(mount::remount(options));
    return int{kOk};
  }
  LCFS_TRY_ASSIGN(options.store, absolute(options.store));
  LCFS_TRY_ASSIGN(auto const store, mount::store_identity(options.store));
  if (options.control) options.control_socket = mount::control_socket_path(store, context.io.env);
  mount::ServeHooks hooks;
  hooks.run_command = [store](mount::ControlRequest& request, mount::Serving const& serving) {
    return run_for_client(request, serving, store);
  };
  context.io.out.flush();  // or the server in the background would print it again
  context.io.err.flush();
  return mount::serve(options, hooks);
}

struct Options {
  mount::MountOptions mount{};
  std::string list{}, layer{};
  std::uint64_t at = 0;
};

int run_mount(Options& options, Context& context) {
  if (!options.layer.empty()) options.mount.layer = options.layer;
  if (options.at != 0)
    (void)mount::parse_options(fmt::format("at={}", options.at), false, options.mount).ok();
  auto done = mount_store(options.mount, context);
  return done ? *done : fail(context, "mount", done.error());
}

// The usage error of a list of mount options, or nothing.
std::string list_problem(std::string const& list) {
  mount::MountOptions ignored;
  auto const parsed = mount::parse_options(list, false, ignored);
  return parsed ? "" : parsed.error().message;
}

// The namespace that mount(8) -N names: a pid or a path.
Status enter_namespace(std::string const& name) {
  bool const pid = name.find_first_not_of("0123456789") == std::string::npos;
  Fd const space = open_fd(pid ? fmt::format("/proc/{}/ns/mnt", name) : name, O_RDONLY);
  if (!space || setns(space.get(), CLONE_NEWNS) != 0)
    return Error::io("cannot enter the mount namespace", errno).in(name);
  return Ok{};
}

struct HelperCall {
  std::vector<std::string> names{};  // STORE DIR
  std::vector<std::string> lists{};  // -o, in order
  std::string space{};               // -N
  bool sloppy = false, fake = false, verbose = false;
};

// mount.lcfs STORE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE], in any order; letters can be
// combined.  Returns a usage error, or nothing.
std::string parse_helper(std::vector<std::string> const& args, HelperCall& call) {
  for (std::size_t i = 1; i < args.size(); ++i) {
    auto const& arg = args[i];
    if (arg.size() < 2 || arg[0] != '-') {
      call.names.push_back(arg);
      continue;
    }
    for (std::size_t at = 1; at < arg.size(); ++at) {
      char const letter = arg[at];
      if (letter == 'o' || letter == 't' || letter == 'N') {
        std::string value = arg.substr(at + 1);
        if (value.empty() && ++i == args.size()) return fmt::format("-{} needs a value", letter);
        if (value.empty()) value = args[i];
        if (letter == 'o') call.lists.push_back(value);
        if (letter == 'N') call.space = value;
        break;
      }
      if (letter == 's')
        call.sloppy = true;
      else if (letter == 'f')
        call.fake = true;
      else if (letter == 'v')
        call.verbose = true;
      else if (letter != 'n')  // -n: do not write mtab, which does not exist
        return fmt::format("unknown option -{}", letter);
    }
  }
  return call.names.size() == 2 ? "" : "STORE and DIR are required";
}

int exit_of(Error const& error) {
  switch (error.sys) {
    case EPERM:
    case EACCES: return kMountUsage;
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case EAGAIN: return kMountSystem;
    default: return kMountFailed;
  }
}

}  // namespace

bool is_mount_helper(std::string_view name) {
  return name == "mount.lcfs" || name == "mount.fuse.lcfs";
}

int run_mount_helper(std::vector<std::string> const& args, Context& context) {
  auto const usage = [&](std::string const& words) {
    warn(context, "mount",
         words + "; usage: mount.lcfs STORE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]");
    return int{kMountUsage};
  };
  HelperCall call;
  if (auto const problem = parse_helper(args, call); !problem.empty()) return usage(problem);
  mount::MountOptions options;
  for (auto const& list : call.lists)
    if (auto parsed = mount::parse_options(list, call.sloppy, options); !parsed)
      return usage(parsed.error().message);
  options.store = call.names[0];
  options.directory = call.names[1];
  options.verbose = call.verbose;
  options.all_flags = true;  // mount(8) passes all flags that the mount is to have
  if (call.fake) return kMountOk;
  if (!call.space.empty())
    if (auto done = enter_namespace(call.space); !done)
      return fail(context, "mount", done.error()), exit_of(done.error());
  auto done = mount_store(options, context);
  if (done) return *done == kOk ? int{kMountOk} : int{kMountFailed};
  fail(context, "mount", done.error());
  return exit_of(done.error());
}

void add_mount(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* cmd = app.add_subcommand("mount", "Mount a store");
  cmd->add_option("--layer", options->layer, "Mount only this layer")->type_name("NAME");
  add_at_option(*cmd, options->at);
  cmd->add_option("-o", options->list, "Mount options, separated by commas")
      ->type_name("OPTIONS")
      ->check(CLI::Validator(list_problem, "", "options"));
  cmd->add_flag("-f,--foreground", options->mount.foreground,
                "Serve in the foreground until unmounted");
  cmd->add_flag("-v,--verbose", options->mount.verbose,
                "Report more, on standard error or in the system log");
  cmd->add_option("STORE", options->mount.store, "File or block device")->required();
  cmd->add_option("DIR", options->mount.directory, "Mount point, a directory")->required();
  cmd->footer("Example:\n  lcfs mount /srv/images.lcfs /mnt");
  cmd->callback([options, &context] {
    (void)mount::parse_options(options->list, false, options->mount).ok();  // checked by the parser
    context.exit = run_mount(*options, context);
  });
}

}  // namespace lcfs::cli
