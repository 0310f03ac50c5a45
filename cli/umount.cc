// SPDX-License-Identifier: Apache-2.0
// lcfs umount: ends a mount, and returns when all of it is durable.
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
    300);  // whoever only looks (df, a shell's completion) is gone by then
constexpr auto kQuiet = std::chrono::seconds(2);  // a longer wait is told

struct Options {
  std::string target{};
  bool lazy = false, force = false;
};

using Mounts = std::vector<mount::MountEntry>;

// What is mounted at the directory (the last one hides the others), or all mounts of the store, the
// last first.
Result<Mounts> find_mounts(std::string const& target) {
  struct stat st {};
  bool const there = stat(target.c_str(), &st) == 0;
  if (there && !S_ISDIR(st.st_mode)) {
    LCFS_TRY_ASSIGN(auto const store, mount::store_identity(target));
    LCFS_TRY_ASSIGN(auto mounts, mount::mounts_of(store));
    if (mounts.empty())
      return Error{Errc::kNotFound, "no mount of that store is seen from here", 0, target,
                   kNoOffset};
    std::reverse(mounts.begin(), mounts.end());
    return mounts;
  }
  LCFS_TRY_ASSIGN(auto const directory, mount::mount_point_path(target));
  LCFS_TRY_ASSIGN(auto const mounts, mount::lcfs_mounts());
  auto const found = std::find_if(mounts.rbegin(), mounts.rend(),
                                  [&](auto const& entry) { return entry.directory == directory; });
  if (found == mounts.rend())
    return Error{Errc::kNotFound, "no lcfs store is mounted there", 0, target, kNoOffset};
  return Mounts{*found};
}

// fusermount3(1) does for ordinary users what takes privileges, and says what is wrong itself.
Status fusermount(std::string const& directory, bool lazy) {
  std::string program = "fusermount3", flags = lazy ? "-uz" : "-u", separator = "--",
              where = directory;
  std::array<char*, 5> args{program.data(), flags.data(), separator.data(), where.data(), nullptr};
  pid_t pid = 0;
  if (int const error = posix_spawnp(&pid, "fusermount3", nullptr, nullptr, args.data(), environ);
      error != 0)
    return io_error(directory, kNoOffset,
                    "cannot run fusermount3, which unmounts for ordinary users", error);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return Ok{};
  return Error{Errc::kIo, "fusermount3 could not unmount it", 0, directory, kNoOffset};
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
    return Error{Errc::kBusy,
                 "files or directories of it are in use; -l unmounts it when they no longer are", 0,
                 directory, kNoOffset};
  return io_error(directory, kNoOffset, "cannot unmount", error);
}

// Whether another place shows the same mount: then its server goes on.
bool still_mounted(mount::MountEntry const& gone) {
  auto const mounts = mount::lcfs_mounts();
  return mounts && std::any_of(mounts->begin(), mounts->end(),
                               [&](auto const& m) { return m.device == gone.device; });
}

// The server flushes after the kernel has let go of the mount; it has the store's lock until that
// is done.
Status wait_for_server(Context& context, std::string const& store, std::optional<pid_t> server) {
  Fd const file = open_fd(store, O_RDONLY | O_NONBLOCK);
  if (!file) return Ok{};  // the store is gone, or not ours to look at: nothing to wait for
  StopOnSignal const signals(context.io);
  auto const start = std::chrono::steady_clock::now();
  for (bool told = false;; std::this_thread::sleep_for(kPoll)) {
    if (lock_store(file.get(), store, true)) return Ok{};  // a server that only reads shares it
    if (auto const holder = lock_holder(file.get()); server && holder != server)
      return Ok{};  // somebody else's by now
    if (signals.stop())
      return Error{Errc::kInterrupted, "unmounted, but its server has not ended yet", 0, store,
                   kNoOffset};
    if (told || std::chrono::steady_clock::now() - start < kQuiet) continue;
    told = true;
    warn(context, "umount",
         fmt::format("{}: waiting for {} to write everything and end", store,
                     server ? fmt::format("pid {}", *server) : "its server"));
  }
}

// Everything is written while somebody can still be told if it can't: the server ends later, and
// who asked is not its parent. False: something is lost.  The server has said what.
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
  if (context.served != nullptr)
    return Error{Errc::kUnsupported, "no command for a server", 0, {}, kNoOffset};
  LCFS_TRY_ASSIGN(auto const mounts, find_mounts(options.target));
  bool written = true;
  for (auto const& entry : mounts) {
    if (!options.lazy && !options.force) written = write_all(context, entry) && written;
    std::optional<pid_t> server;
    if (Fd const file = open_fd(entry.source, O_RDONLY | O_NONBLOCK))
      server = lock_holder(file.get());
    LCFS_TRY(unmount(options, entry.directory));
    // A lazy unmount may last as long as somebody has a file open.
    if (!options.lazy && !still_mounted(entry))
      LCFS_TRY(wait_for_server(context, entry.source, server));
  }
  if (!written)
    return Error{Errc::kIo, "unmounted, but not all that was written before is in the store", 0,
                 options.target, kNoOffset};
  return Ok{};
}

}  // namespace

void add_umount(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* cmd = app.add_subcommand("umount", "End a mount, and wait until all of it is durable");
  cmd->add_flag("-l,--lazy", options->lazy,
                "Take it out of sight now, end it when nobody uses it any more; don't wait");
  cmd->add_flag("-f,--force", options->force, "Give requests up that the server doesn't answer");
  cmd->add_option("DIR", options->target, "Where it is mounted; or the store, for all its mounts")
      ->required();
  cmd->footer("Example:\n  lcfs umount /mnt");
  cmd->callback([options, &context] {
    if (auto done = run_umount(*options, context); !done)
      context.exit = fail(context, "umount", done.error());
  });
}

}  // namespace lcfs::cli
