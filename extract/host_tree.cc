// SPDX-License-Identifier: Apache-2.0
#include "extract/host_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>

#include "base/fd.h"

namespace lcfs::extract {
namespace {

constexpr int kDirectoryFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

Error host_error(char const* what) { return Error::io(what, errno); }

// A path to `file`, through the kernel's own table of descriptors:
// never longer than one component, and safe from symlinks.
std::string proc_path(HostFile file) {
  return file.name == nullptr ? fmt::format("/proc/self/fd/{}", file.fd)
                              : fmt::format("/proc/self/fd/{}/{}", file.fd, *file.name);
}

// Removes an existing `name`.
Status remove_name(int directory, std::string const& name) {
  if (unlinkat(directory, name.c_str(), 0) == 0 || errno == ENOENT) return Ok{};
  if (errno != EISDIR && errno != EPERM) return host_error("cannot remove the existing file");
  if (unlinkat(directory, name.c_str(), AT_REMOVEDIR) == 0) return Ok{};
  return host_error("cannot remove the existing file");
}

// Calls `make` (which returns -1 and sets errno on failure); with `force` once more after removing
// an existing file.
template <class Make>
Result<int> make_entry(int directory, std::string const& name, bool force, char const* what,
                       Make const& make) {
  int made = make();
  if (made < 0 && errno == EEXIST && force) {
    LCFS_TRY(remove_name(directory, name));
    made = make();
  }
  if (made < 0) return host_error(what);
  return made;
}

// Removes the default ACL of a directory of the host, which would be inherited by everything that
// is made in it.
void drop_default_acl(int fd) { fremovexattr(fd, "system.posix_acl_default"); }

Result<bool> is_empty(int fd) {
  int const again = openat(fd, ".", kDirectoryFlags);
  if (again < 0) return host_error("cannot list");
  DIR* dir = fdopendir(again);
  if (dir == nullptr) {
    auto error = host_error("cannot list");
    ::close(again);
    return error;
  }
  bool empty = true;
  errno = 0;
  while (dirent const* entry = readdir(dir)) {
    std::string_view const name = entry->d_name;
    if (name != "." && name != "..") {
      empty = false;
      break;
    }
  }
  int const error = errno;
  closedir(dir);
  if (empty && error != 0) {
    errno = error;
    return host_error("cannot list");
  }
  return empty;
}

}  // namespace

Result<HostId> host_id(int fd) {
  struct stat st {};
  if (fstat(fd, &st) != 0) return host_error("cannot stat");
  return HostId{st.st_dev, st.st_ino};
}

Result<HostId> host_id(int directory, std::string const& name) {
  struct stat st {};
  if (fstatat(directory, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0)
    return host_error("cannot stat");
  return HostId{st.st_dev, st.st_ino};
}

Result<Fd> open_target(std::string const& path, bool force) {
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    auto error = host_error("cannot create the directory");
    error.path = path;
    return error;
  }
  Fd fd{open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!fd) {
    auto error = host_error("cannot open the directory");
    error.path = path;
    return error;
  }
  auto empty = is_empty(fd.get());
  if (!empty) {
    empty.error().path = path;
    return std::move(empty).error();
  }
  if (!*empty && !force) return Error::exists("directory is not empty").in(path);
  drop_default_acl(fd.get());
  return fd;
}

Result<Fd> make_directory(int directory, std::string const& name, bool force) {
  bool made = mkdirat(directory, name.c_str(), 0700) == 0;
  if (!made && !(errno == EEXIST && force)) return host_error("cannot create the directory");
  Fd fd{openat(directory, name.c_str(), kDirectoryFlags)};
  if (!fd && !made && (errno == ENOTDIR || errno == ELOOP)) {  // another file has the name
    LCFS_TRY(remove_name(directory, name));
    if (mkdirat(directory, name.c_str(), 0700) != 0)
      return host_error("cannot create the directory");
    made = true;
    fd = Fd{openat(directory, name.c_str(), kDirectoryFlags)};
  }
  if (!fd) return host_error("cannot open the directory");
  drop_default_acl(fd.get());
  return fd;
}

Result<Fd> make_file(int directory, std::string const& name, bool force) {
  auto fd = make_entry(directory, name, force, "cannot create the file", [&] {
    return openat(directory, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                  0600);
  });
  if (!fd) return std::move(fd).error();
  return Fd{*fd};
}

Status make_symlink(int directory, std::string const& name, std::string const& target, bool force) {
  LCFS_TRY(make_entry(directory, name, force, "cannot create the symlink",
                      [&] { return symlinkat(target.c_str(), directory, name.c_str()); }));
  return Ok{};
}

Status make_special(int directory, std::string const& name, std::uint32_t mode, std::uint64_t rdev,
                    bool force) {
  auto const device =
      makedev(static_cast<unsigned>(rdev >> 32), static_cast<unsigned>(rdev & 0xffffffff));
  LCFS_TRY(make_entry(directory, name, force, "cannot create the special file", [&] {
    return mknodat(directory, name.c_str(), (mode & S_IFMT) | 0600, device);
  }));
  return Ok{};
}

Status make_hardlink(int root, std::string_view path, HostId const& expect, int directory,
                     std::string const& name, bool force) {
  Fd walked;
  int at = root;
  for (;;) {
    auto const slash = path.find('/');
    if (slash == std::string_view::npos) break;
    std::string const component{path.substr(0, slash)};
    path.remove_prefix(slash + 1);
    if (component.empty()) continue;
    walked = Fd{openat(at, component.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
    if (!walked) return host_error("cannot find the file to link to");
    at = walked.get();
  }
  std::string const last{path};
  LCFS_TRY(make_entry(directory, name, force, "cannot create the hard link",
                      [&] { return linkat(at, last.c_str(), directory, name.c_str(), 0); }));
  LCFS_TRY_ASSIGN(auto made, host_id(directory, name));
  if (made == expect) return Ok{};
  unlinkat(directory, name.c_str(), 0);
  return Error::io("the target of the hard link was replaced while extracting");
}

Result<Fd> open_parent(int directory, HostId const& expect) {
  Fd parent{openat(directory, "..", kDirectoryFlags)};
  if (!parent) return host_error("cannot return to the parent directory");
  LCFS_TRY_ASSIGN(auto found, host_id(parent.get()));
  if (!(found == expect)) return Error::io("the directory was moved while extracting");
  return parent;
}

Status set_owner(HostFile file, std::uint32_t uid, std::uint32_t gid) {
  int const done = file.name == nullptr
                       ? fchown(file.fd, uid, gid)
                       : fchownat(file.fd, file.name->c_str(), uid, gid, AT_SYMLINK_NOFOLLOW);
  if (done != 0) return host_error("cannot set the owner");
  return Ok{};
}

Status set_permissions(HostFile file, std::uint32_t permissions) {
  if (file.name == nullptr) {
    if (fchmod(file.fd, permissions) != 0) return host_error("cannot set the mode");
    return Ok{};
  }
  // fchmodat cannot avoid symlinks: open the file itself first, and check that it is not one.
  Fd const held{openat(file.fd, file.name->c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)};
  struct stat st {};
  if (!held || fstat(held.get(), &st) != 0) return host_error("cannot set the mode");
  if (S_ISLNK(st.st_mode)) return Error::io("the file was replaced while extracting");
  if (chmod(proc_path({held.get(), nullptr}).c_str(), permissions) != 0)
    return host_error("cannot set the mode");
  return Ok{};
}

Status set_times(HostFile file, Timestamp const& atime, Timestamp const& mtime) {
  timespec const times[2] = {{atime.sec, static_cast<long>(atime.nsec)},
                             {mtime.sec, static_cast<long>(mtime.nsec)}};
  int const done = file.name == nullptr
                       ? futimens(file.fd, times)
                       : utimensat(file.fd, file.name->c_str(), times, AT_SYMLINK_NOFOLLOW);
  if (done != 0) return host_error("cannot set the times");
  return Ok{};
}

Status set_xattr(HostFile file, std::string const& name, std::string const& value) {
  int const done =
      file.name == nullptr
          ? fsetxattr(file.fd, name.c_str(), value.data(), value.size(), 0)
          : lsetxattr(proc_path(file).c_str(), name.c_str(), value.data(), value.size(), 0);
  if (done != 0) {
    int const sys = errno;
    return Error::io(fmt::format("cannot set the extended attribute {}", name), sys);
  }
  return Ok{};
}

}  // namespace lcfs::extract
