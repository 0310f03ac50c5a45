// SPDX-License-Identifier: Apache-2.0
#include "device/signature.h"

#include <blkid.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/fd.h"
#include "device/checks.h"
#include "format/layout.h"

namespace lcfs::device {

namespace {

namespace fs = std::filesystem;

using Probe = std::unique_ptr<std::remove_pointer_t<blkid_probe>, decltype(&blkid_free_probe)>;

std::string value_of(blkid_probe probe, char const* name) {
  char const* data = nullptr;
  if (blkid_probe_lookup_value(probe, name, &data, nullptr) != 0 || data == nullptr) return {};
  return data;
}

std::string describe(blkid_probe probe) {
  auto const type = value_of(probe, "TYPE");
  if (type.empty()) {
    auto const table = value_of(probe, "PTTYPE");
    return table.empty() ? "data of an unknown kind" : table + " partition table";
  }
  auto const usage = value_of(probe, "USAGE");
  auto const label = value_of(probe, "LABEL");
  char const* const kind = usage == "filesystem" ? "filesystem"
                           : usage == "raid"     ? "volume member"
                           : usage == "crypto"   ? "encrypted volume"
                                                 : "signature";
  return label.empty() ? fmt::format("{} {}", type, kind)
                       : fmt::format("{} {} (label {})", type, kind, label);
}

Result<bool> has_magic(int fd, std::string const& path, std::uint64_t block) {
  std::array<std::uint8_t, format::kSuperMagic.size()> bytes{};
  ssize_t n = 0;
  do n = ::pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(block * format::kBlockSize));
  while (n < 0 && errno == EINTR);
  if (n < 0) return Error::io("cannot read", errno).in(path).at(block * format::kBlockSize);
  return n == static_cast<ssize_t>(bytes.size()) && bytes == format::kSuperMagic;
}

// Opens a regular file or a block device; `st` shows which.
Result<Fd> open_to_look(std::string const& path, struct stat& st) {
  if (::stat(path.c_str(), &st) != 0) return Error::io("cannot examine", errno).in(path);
  if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
    return Error::invalid("is not a regular file or block device").in(path);
  Fd fd = open_fd(path, O_RDONLY | O_NOCTTY);
  if (!fd) return Error::io("cannot open", errno).in(path);
  if (::fstat(fd.get(), &st) != 0) return Error::io("cannot examine", errno).in(path);
  return fd;
}

std::string first_line(fs::path const& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

// mountinfo writes a space, tab, newline and backslash as \ooo.
std::string unescape(std::string_view text) {
  auto octal = [](char c) { return c >= '0' && c <= '7'; };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && text.size() - i > 3 && octal(text[i + 1]) && octal(text[i + 2]) &&
        octal(text[i + 3])) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                               (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

// Where one of the devices is mounted.  A line: "36 35 98:0 /root /mnt rw,noatime master:1 - ext3
// /dev/sda1 rw".
std::optional<std::string> mount_point(std::vector<dev_t> const& devices) {
  std::ifstream table("/proc/self/mountinfo");
  for (std::string line; std::getline(table, line);) {
    std::istringstream words(line);
    std::string id, parent, numbers, root, where, word, type, source;
    words >> id >> parent >> numbers >> root >> where;
    while (words >> word && word != "-") {
    }
    words >> type >> source;
    // Some file systems (btrfs) show a number of their own; the source then still names the device.
    struct stat st {};
    bool const named = source.starts_with("/") && ::stat(unescape(source).c_str(), &st) == 0 &&
                       S_ISBLK(st.st_mode);
    for (dev_t device : devices) {
      if (numbers == fmt::format("{}:{}", major(device), minor(device)) ||
          (named && st.st_rdev == device))
        return unescape(where);
    }
  }
  return std::nullopt;
}

// The device itself and its partitions.
std::vector<dev_t> with_partitions(dev_t device) {
  std::vector<dev_t> all{device};
  std::error_code ec;
  fs::path const dir = fmt::format("/sys/dev/block/{}:{}", major(device), minor(device));
  for (fs::directory_iterator entry(dir, ec), end; !ec && entry != end; entry.increment(ec)) {
    std::error_code none;
    if (!fs::exists(entry->path() / "partition", none)) continue;
    unsigned maj = 0, min = 0;
    char colon = 0;
    std::istringstream numbers(first_line(entry->path() / "dev"));
    if (numbers >> maj >> colon >> min) all.push_back(makedev(maj, min));
  }
  return all;
}

// The loop device of the file.
std::optional<std::string> loop_of(struct stat const& file) {
  std::error_code ec;
  for (fs::directory_iterator entry("/sys/block", ec), end; !ec && entry != end;
       entry.increment(ec)) {
    auto const name = entry->path().filename().string();
    if (!name.starts_with("loop")) continue;
    auto const backing = first_line(entry->path() / "loop/backing_file");
    struct stat st {};
    if (!backing.empty() && ::stat(backing.c_str(), &st) == 0 && st.st_dev == file.st_dev &&
        st.st_ino == file.st_ino)
      return "/dev/" + name;
  }
  return std::nullopt;
}

}  // namespace

Result<std::optional<std::string>> foreign_signature(std::string const& path) {
  using Answer = std::optional<std::string>;
  struct stat st {};
  LCFS_TRY_ASSIGN(Fd fd, open_to_look(path, st));
  // Before libblkid: the contents of a store may look like the file system of a disk image.
  LCFS_TRY_ASSIGN(bool const first_slot, has_magic(fd.get(), path, format::kSlotBlock[0]));
  if (first_slot) return Answer("lcfs store");
  if (S_ISREG(st.st_mode) && st.st_size == 0) return Answer();

  Probe probe(blkid_new_probe(), &blkid_free_probe);
  if (!probe || blkid_probe_set_device(probe.get(), fd.get(), 0, 0) != 0)
    return Error::io("cannot examine with libblkid", errno).in(path);
  blkid_probe_enable_superblocks(probe.get(), 1);
  blkid_probe_set_superblocks_flags(probe.get(),
                                    BLKID_SUBLKS_LABEL | BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE);
  blkid_probe_enable_partitions(probe.get(), 1);
  errno = 0;
  switch (blkid_do_safeprobe(probe.get())) {
    case 0: return Answer(describe(probe.get()));
    case 1: break;
    case -2: return Answer("several conflicting signatures");
    default: return Error::io("cannot examine with libblkid", errno != 0 ? errno : EIO).in(path);
  }
  // After libblkid: a foreign mkfs overwrites the first slot but may leave the second.
  LCFS_TRY_ASSIGN(bool const second_slot, has_magic(fd.get(), path, format::kSlotBlock[1]));
  return second_slot ? Answer("lcfs store") : Answer();
}

Result<std::optional<std::string>> kernel_use(std::string const& path) {
  using Answer = std::optional<std::string>;
  struct stat st {};
  LCFS_TRY_ASSIGN(Fd const fd, open_to_look(path, st));
  if (S_ISBLK(st.st_mode)) {
    auto const where = mount_point(with_partitions(st.st_rdev));
    return where ? Answer("mounted at " + *where) : Answer();
  }
  auto const loop = loop_of(st);
  if (!loop) return Answer();
  struct stat device {};
  if (::stat(loop->c_str(), &device) == 0 && S_ISBLK(device.st_mode)) {
    if (auto const where = mount_point(with_partitions(device.st_rdev)))
      return Answer(fmt::format("attached to {}, which is mounted at {}", *loop, *where));
  }
  return Answer("attached to " + *loop);
}

Result<bool> is_mounted(std::string const& path) {
  LCFS_TRY_ASSIGN(auto const use, kernel_use(path));
  return use.has_value();
}

}  // namespace lcfs::device
