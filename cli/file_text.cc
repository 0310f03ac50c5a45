// SPDX-License-Identifier: Apache-2.0
#include "cli/file_text.h"

#include <fmt/format.h>
#include <sys/stat.h>

namespace lcfs::cli {

std::string mode_text(std::uint32_t mode) {
  std::string text = "?---------";
  switch (mode & S_IFMT) {
    case S_IFREG: text[0] = '-'; break;
    case S_IFDIR: text[0] = 'd'; break;
    case S_IFLNK: text[0] = 'l'; break;
    case S_IFCHR: text[0] = 'c'; break;
    case S_IFBLK: text[0] = 'b'; break;
    case S_IFIFO: text[0] = 'p'; break;
    case S_IFSOCK: text[0] = 's'; break;
    default: break;
  }
  for (unsigned i = 0; i < 9; ++i)
    if ((mode & (0400u >> i)) != 0) text[1 + i] = "rwx"[i % 3];
  auto const special = [&](std::uint32_t bit, std::size_t at, char with_x, char without) {
    if ((mode & bit) != 0) text[at] = text[at] == 'x' ? with_x : without;
  };
  special(S_ISUID, 3, 's', 'S');
  special(S_ISGID, 6, 's', 'S');
  special(S_ISVTX, 9, 't', 'T');
  return text;
}

char const* type_text(std::uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG: return "file";
    case S_IFDIR: return "directory";
    case S_IFLNK: return "symlink";
    case S_IFCHR: return "char";
    case S_IFBLK: return "block";
    case S_IFIFO: return "fifo";
    case S_IFSOCK: return "socket";
    default: return "unknown";
  }
}

std::string rdev_text(std::uint64_t rdev) {
  return fmt::format("{}, {}", rdev >> 32, rdev & 0xffffffff);
}

Result<Json> file_json(Layer& layer, std::string const& path, Attr const& attr) {
  auto const& info = attr.info;
  Json object;
  put_bytes(object, "path", path);
  object["type"] = type_text(info.mode);
  object["mode"] = fmt::format("{:04o}", info.mode & 07777);
  object["inode"] = attr.inode;
  object["nlink"] = info.nlink;
  object["uid"] = info.uid;
  object["gid"] = info.gid;
  object["size"] = info.size;
  object["blocks"] = info.blocks;
  object["mtime"] = timestamp_json(info.mtime);
  if (S_ISLNK(info.mode)) {
    LCFS_TRY_ASSIGN(auto const target, layer.readlink(attr.inode));
    put_bytes(object, "target", target);
  }
  if (S_ISCHR(info.mode) || S_ISBLK(info.mode))
    object["rdev"] = {{"major", info.rdev >> 32}, {"minor", info.rdev & 0xffffffff}};
  return object;
}

}  // namespace lcfs::cli
