// SPDX-License-Identifier: Apache-2.0
#include "mount/mount_table.h"

#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/xattr.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <memory>

#include "device/checks.h"

namespace lcfs::mount {
namespace {

// Takes the next word from a line whose words are separated by single spaces.
std::string_view next_word(std::string_view& line) {
  auto const blank = line.find(' ');
  auto const word = line.substr(0, blank);
  line.remove_prefix(blank == std::string_view::npos ? line.size() : blank + 1);
  return word;
}

// The kernel writes spaces, tabs, newlines, backslashes and "#" as octal escapes such as "\040".
std::string unescape(std::string_view word) {
  std::string text;
  for (std::size_t i = 0; i < word.size(); ++i) {
    auto const digit = [&](std::size_t at) {
      return i + at < word.size() && word[i + at] >= '0' && word[i + at] <= '7' ? word[i + at] - '0'
                                                                                : -1;
    };
    if (word[i] == '\\' && digit(1) >= 0 && digit(2) >= 0 && digit(3) >= 0) {
      text.push_back(static_cast<char>(digit(1) << 6 | digit(2) << 3 | digit(3)));
      i += 3;
    } else {
      text.push_back(word[i]);
    }
  }
  return text;
}

Result<std::string> real_path(std::string const& path) {
  std::unique_ptr<char, void (*)(void*)> const real{::realpath(path.c_str(), nullptr), std::free};
  if (!real) return Error::io("cannot find the directory", errno).in(path);
  return std::string{real.get()};
}

}  // namespace

std::optional<MountEntry> parse_mount_line(std::string_view line) {
  // 36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw: id, parent, device, root,
  // directory, options, any number of fields, "-", type, source, options of the file system.
  MountEntry entry;
  next_word(line);
  next_word(line);
  entry.device = next_word(line);
  next_word(line);
  entry.directory = unescape(next_word(line));
  auto const options = next_word(line);
  while (!line.empty() && next_word(line) != "-") {
  }
  entry.type = next_word(line);
  entry.source = unescape(next_word(line));
  if (entry.device.find(':') == std::string::npos || !entry.directory.starts_with('/') ||
      entry.type.empty())
    return std::nullopt;
  entry.flags = vfs_flags_of(options);
  return entry;
}

Result<std::vector<MountEntry>> lcfs_mounts() {
  std::ifstream table("/proc/self/mountinfo");
  if (!table) return Error::io("cannot open", errno).in("/proc/self/mountinfo");
  std::vector<MountEntry> found;
  for (std::string line; std::getline(table, line);)
    if (auto entry = parse_mount_line(line); entry && entry->type == kFsType)
      found.push_back(*std::move(entry));
  return found;
}

Result<std::vector<MountEntry>> mounts_of(StoreIdentity const& store) {
  LCFS_TRY_ASSIGN(auto all, lcfs_mounts());
  std::erase_if(all, [&](MountEntry const& entry) {
    auto const other = store_identity(entry.source);
    return !other || !(*other == store);
  });
  return all;
}

Result<std::string> mount_point_path(std::string const& directory) {
  auto whole = real_path(directory);
  if (whole || whole.error().sys != ENOTCONN) return whole;
  auto end = directory.find_last_not_of('/');
  if (end == std::string::npos) return whole;
  auto const slash = directory.rfind('/', end);
  auto const name = directory.substr(slash + 1, end - slash);  // slash npos: + 1 is 0
  if (name == "." || name == "..") return whole;
  auto above = real_path(slash == std::string::npos ? "." : directory.substr(0, slash + 1));
  if (!above) return above;
  if (!above->ends_with('/')) above->push_back('/');
  return *above + name;
}

namespace {

// An attribute that the server reports about itself; nullopt with no_pseudo or from an older
// server.
std::optional<std::string> ask(std::string const& directory, char const* what) {
  std::array<char, 1024> text{};
  auto const n = ::getxattr(directory.c_str(), what, text.data(), text.size());
  if (n < 0) return std::nullopt;
  return std::string(text.data(), static_cast<std::size_t>(n));
}

}  // namespace

Status remount(MountOptions const& options) {
  LCFS_TRY_ASSIGN(auto const directory, mount_point_path(options.directory));
  LCFS_TRY_ASSIGN(auto const mounts, lcfs_mounts());
  MountEntry const* there = nullptr;
  for (auto const& entry : mounts)
    if (entry.directory == directory) there = &entry;  // the last one hides the others
  if (there == nullptr)
    return Error::not_found("no lcfs store is mounted here").in(options.directory);
  MountOptions had;
  auto const said = ask(directory, kOptionsXattr);
  bool const known = said && parse_options(*said, true, had).ok();
  if (auto const word = known ? fixed_change(options, had) : std::string{}; !word.empty())
    return Error::invalid(
               fmt::format("a remount cannot change the mount option {}; unmount it, and mount it "
                           "again",
                           word))
        .in(options.directory);
  constexpr unsigned long kAtime = MS_NOATIME | MS_RELATIME | MS_STRICTATIME |
                                   MS_NODIRATIME;  // the kernel keeps these if none is named
  unsigned long const flags =
      options.vfs.over(options.all_flags ? there->flags & kAtime : there->flags);
  if ((there->flags & MS_RDONLY) != 0 && (flags & MS_RDONLY) == 0 &&
      ask(directory, kAccessXattr) == "ro")
    return Error::read_only(
               "its server has the store open read-only; unmount it, and mount it again to write")
        .in(options.directory);
  if (::mount(there->source.c_str(), directory.c_str(), nullptr, MS_REMOUNT | flags, nullptr) != 0)
    return Error::io("cannot remount", errno).in(options.directory);
  return Ok{};
}

}  // namespace lcfs::mount
