// SPDX-License-Identifier: Apache-2.0
// The identity of a store, and the path of its control socket.
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "mount/control.h"

namespace lcfs::mount {
namespace {

std::string get(Environment const& env, char const* name) {
  return env ? env(name).value_or("") : "";
}

std::string file_name(StoreIdentity const& store) {
  if (store.block) return fmt::format("b{}-{}.sock", major(store.device), minor(store.device));
  return fmt::format("{:x}-{:x}.sock", store.device, store.inode);
}

std::string in_tmp(uid_t uid) { return fmt::format("/tmp/lcfs-{}", uid); }

std::string own_directory(Environment const& env) {
  if (geteuid() == 0) return "/run/lcfs";
  if (auto const runtime = get(env, "XDG_RUNTIME_DIR"); runtime.starts_with('/'))
    return runtime + "/lcfs";
  return in_tmp(geteuid());
}

}  // namespace

Result<StoreIdentity> store_identity(std::string const& path) {
  struct stat st {};
  if (stat(path.c_str(), &st) != 0) return Error::io("cannot examine", errno).in(path);
  if (S_ISBLK(st.st_mode)) return StoreIdentity{true, st.st_rdev, 0, st.st_uid};
  return StoreIdentity{false, st.st_dev, st.st_ino, st.st_uid};
}

std::string control_socket_path(StoreIdentity const& store, Environment const& env) {
  auto const given = get(env, "LCFS_RUNTIME_DIR");
  return (given.empty() ? own_directory(env) : given) + "/" + file_name(store);
}

std::vector<std::string> control_socket_paths(StoreIdentity const& store, Environment const& env) {
  std::vector<std::string> paths{control_socket_path(store, env)};
  if (!get(env, "LCFS_RUNTIME_DIR").empty()) return paths;
  auto const add = [&](std::string const& directory) {
    auto path = directory + "/" + file_name(store);
    if (std::find(paths.begin(), paths.end(), path) == paths.end())
      paths.push_back(std::move(path));
  };
  // Whether a user has XDG_RUNTIME_DIR depends on the login, so look in both places.
  auto const of_user = [&](uid_t uid) {
    if (uid == 0) return;
    add(fmt::format("/run/user/{}/lcfs", uid));
    add(in_tmp(uid));
  };
  of_user(geteuid());
  of_user(store.owner);
  add("/run/lcfs");
  return paths;
}

}  // namespace lcfs::mount
