// SPDX-License-Identifier: Apache-2.0
// lcfs umount: unmounts a store, and returns when everything is durable.
#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>

#include "base/fd.h"
#include "cli/commands.h"
#include "cli/print.h"
#include "cli/signals.h"
#include "cli/store_arg.h"
#include "device/checks.h"
#include "device/lock.h"
#include "mount/mount_table.h"

extern char** environ;

namespace lcfs::cli {
namespace {

constexpr auto kPoll = std::chrono::milliseconds(20);
constexpr auto kPassing = std::chrono::milliseconds(
    300);  // a program that only looks (df, a shell's completion) has finished by then
constexpr auto kQuiet = std::chrono::seconds(2);  // a longer wait is reported

struct Options {
  std::string target{};
  bool lazy = false, force = false;
};

using Mounts = std::vector<mount::MountEntry>;

// The mount at the directory (the last one hides the others), or all mounts of the store, last one
// first.
Result<Mounts> find_mounts(std::string const& target) {
  struct stat st {};
  bool const there = stat(target.c_str(), &st) == 0;
  if (there && !S_ISDIR(st.st_mode)) {
    LCFS_TRY_ASSIGN(auto const store, mount::store_identity(target));
    LCFS_TRY_ASSIGN(auto mounts, mount::mounts_of(store));
    if (mounts.empty())
      return Error::not_found("this store is not mounted in this mount namespace").in(target);
    std::reverse(mounts.begin(), mounts.end());
    return mounts;
  }
  LCFS_TRY_ASSIGN(auto const directory, mount::mount_point_path(target));
  LCFS_TRY_ASSIGN(auto const mounts, mount::lcfs_mounts());
  auto const found = std::find_if(mounts.rbegin(), mounts.rend(),
                                  [&](auto const& entry) { return entry.directory == directory; });
  if (found == mounts.rend()) return Error::not_found("no lcfs store is mounted here").in(target);
  return Mounts{*found};
}

// fusermount3(1) has the privileges that ordinary users lack.  It prints its own errors.
Status fusermount(std::string const& directory, bool lazy) {
  std::string program = "fusermount3", flags = lazy ? "-uz" : "-u", separator = "--",
              where = directory;
  std::array<char*, 5> args{program.data(), flags.data(), separator.data(), where.data(), nullptr};
  pid_t pid = 0;
  if (int const error = posix_spawnp(&pid, "fusermount3", nullptr, nullptr, args.data(), environ);
      error != 0)
    return Error::io("cannot run fusermount3, which unmounts for ordinary users", error)
        .in(directory);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return Ok{};
  return Error::io("fusermount3 could not unmount it").in(directory);
}

Status unmount(Options const& options, std::string const& directory) {
  int const flags =
      UMOUNT_NOFOLLOW | (options.lazy ? MNT_DETACH : 0) | (options.force ? MNT_FORCE : 0);
  auto const start = std::chrono::steady_clock::now();
  int error = 0;
  do {
    if (error != 0) std::this_thread::sleep_for(kPoll);
    error = umount2(directory.c_str(), flags) == 0 ? 0 : errno;
  } while (error == EBUSY && std::chrono::steady_clock::now() - start < kPassing);
  if (error == 0) return Ok{};
  if (error == EPERM && geteuid() != 0) return fusermount(directory, options.lazy);
  if (error == EBUSY)
    return Error::busy("busy: files or directories are in use; close them, or use -l")
        .in(directory);
  return Error::io("cannot unmount", error).in(directory);
}

// Whether the same file system is mounted elsewhere too; then its server stays.
bool still_mounted(mount::MountEntry const& gone) {
  auto const mounts = mount::lcfs_mounts();
  return mounts && std::any_of(mounts->begin(), mounts->end(),
                               [&](auto const& m) { return m.device == gone.device; });
}

// The server flushes after the kernel has ended the mount, and holds the store's lock until that is
// done.
Status wait_for_server(Context& context, std::string const& store, std::optional<pid_t> server) {
  Fd const file = open_fd(store, O_RDONLY | O_NONBLOCK);
  if (!file) return Ok{};  // the store is gone, or not readable for us: nothing to wait for
  StopOnSignal const signals(context.io);
  auto const start = std::chrono::steady_clock::now();
  for (bool reported = false;; std::this_thread::sleep_for(kPoll)) {
    if (lock_store(file.get(), store, true))
      return Ok{};  // shared, because a server that only reads shares it
    if (auto const holder = lock_holder(file.get()); server && holder != server)
      return Ok{};  // by now another process has the store
    if (signals.stop())
      return Error{.code = Errc::kInterrupted,
                   .message = "unmounted, but its server is still writing",
                   .path = store};
    if (reported || std::chrono::steady_clock::now() - start < kQuiet) continue;
    reported = true;
    warn(context, "umount",
         fmt::format("{}: waiting for {} to write everything", store,
                     server ? fmt::format("pid {}", *server) : "its server"));
  }
}

// Writes everything before the unmount, while an error can still be reported: the server exits
// later, and this process is not its parent.  False: the server could not write everything, and
// said so.
bool write_all(Context& context, mount::MountEntry const& entry) {
  struct statvfs fs {};
  if (statvfs(entry.directory.c_str(), &fs) != 0 || (fs.f_flag & ST_RDONLY) != 0) return true;
  int const before = context.exit;
  auto const asked =
      forward(context, entry.source, {context.args.front(), "sync", "--store", entry.source});
  bool const written = !asked || !*asked || context.exit == 0;
  context.exit = before;
  return written;
}

Status run_umount(Options const& options, Context& context) {
  // No client sends this; a server would wait for itself.
  if (context.served != nullptr) return Error::unsupported("a server cannot run this command");
  LCFS_TRY_ASSIGN(auto const mounts, find_mounts(options.target));
  bool written = true;
  for (auto const& entry : mounts) {
    if (!options.lazy && !options.force) written = write_all(context, entry) && written;
    std::optional<pid_t> server;
    if (Fd const file = open_fd(entry.source, O_RDONLY | O_NONBLOCK))
      server = lock_holder(file.get());
    LCFS_TRY(unmount(options, entry.directory));
    // A lazy unmount lasts as long as a file is open.
    if (!options.lazy && !still_mounted(entry))
      LCFS_TRY(wait_for_server(context, entry.source, server));
  }
  if (!written)
    return Error::io("unmounted, but some changes could not be written to the store")
        .in(options.target);
  return Ok{};
}

}  // namespace

void add_umount(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* cmd = app.add_subcommand("umount", "Unmount and flush a store");
  cmd->add_flag("-l,--lazy", options->lazy,
                "Detach it now, and end it when it is no longer in use");
  cmd->add_flag("-f,--force", options->force, "Abort requests that the server is not answering");
  cmd->add_option("DIR", options->target, "Mount point; or the store, for all its mounts")
      ->required();
  cmd->footer("Example:\n  lcfs umount /mnt");
  cmd->callback([options, &context] {
    if (auto done = run_umount(*options, context); !done)
      context.exit = fail(context, "umount", done.error());
  });
}

}  // namespace lcfs::cli
