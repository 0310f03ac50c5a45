// SPDX-License-Identifier: Apache-2.0
#include "cli/store_arg.h"

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <cerrno>

#include "cli/checks.h"
#include "mount/mount_table.h"

namespace lcfs::cli {
namespace {

std::string variable(Io const& io, char const* name) {
  return io.env ? io.env(name).value_or("") : "";
}

std::string data_home(Io const& io) {
  auto const xdg = variable(io, "XDG_DATA_HOME");
  if (xdg.starts_with('/')) return xdg;
  auto home = variable(io, "HOME");
  if (home.empty())
    if (passwd const* user = getpwuid(geteuid()); user != nullptr)
      home = user->pw_dir;  // NOLINT(concurrency-mt-unsafe)
  return home + "/.local/share";
}

}  // namespace

CLI::Option* add_store_option(CLI::App& command, std::string& given) {
  return command
      .add_option("--store", given,
                  "Store to use (default: $LCFS_STORE, or the user's default store)")
      ->type_name("PATH");
}

CLI::Option* add_at_option(CLI::App& command, std::uint64_t& at) {
  return command
      .add_option("--at", at, "Read the unmounted store as of this restore point (lcfs log)")
      ->type_name("GENERATION")
      ->check(positive_check());
}

std::string store_path(Io const& io, std::string const& given) {
  if (!given.empty()) return given;
  if (auto const chosen = variable(io, "LCFS_STORE"); !chosen.empty()) return chosen;
  return (geteuid() == 0 ? std::string{"/var/lib"} : data_home(io)) + "/lcfs/store.lcfs";
}

bool is_served(Context const& context, std::string const& path) {
  if (context.served == nullptr) return false;
  auto const meant = mount::store_identity(path);
  return meant && *meant == context.served->identity;
}

namespace {

// The store is in use, and no server answers.  If it is mounted, its server listens elsewhere or
// not at all.
Error unreachable(Context const& context, Error busy, std::string const& path) {
  auto const store = mount::store_identity(path);
  auto const mounts = store ? mount::mounts_of(*store) : std::vector<mount::MountEntry>{};
  if (!mounts || mounts->empty()) return busy;
  busy.message = fmt::format(
      "mounted at {}, but no server answers at {} ({}); check LCFS_RUNTIME_DIR and the mount "
      "option "
      "control",
      mounts->back().directory, mount::control_socket_path(*store, context.io.env), busy.message);
  return busy;
}

}  // namespace

Result<StoreUse> open_store(Context& context, std::string const& given, Access access,
                            std::uint64_t at) {
  auto const path = store_path(context.io, given);
  if (is_served(context, path)) return StoreUse{context.served->serving.store};
  auto device = open_device(path, access);
  if (!device) {
    auto error = std::move(device).error();
    if (error.code == Errc::kBusy && at != 0)
      return Error::busy("the store is mounted or in use; --at requires an unmounted store")
          .in(path);
    if (error.code == Errc::kBusy) {
      LCFS_TRY_ASSIGN(context.forwarded, forward(context, path));
      if (!context.forwarded) return unreachable(context, std::move(error), path);
    }
    if (error.sys == ENOENT)
      return Error::not_found(
                 "no such store; create it (lcfs import, lcfs mkfs), or select another one "
                 "(--store, "
                 "LCFS_STORE)")
          .in(path);
    return error;
  }
  OpenOptions options;
  options.read_only = access != Access::kReadWrite;
  options.at = at;
  auto store = Store::open(*std::move(device), options);
  if (store) return StoreUse{*std::move(store)};
  if (store.error().path.empty()) store.error().path = path;
  return std::move(store).error();
}

}  // namespace lcfs::cli
