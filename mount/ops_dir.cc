// SPDX-License-Identifier: Apache-2.0
// Directories.
//
// Offsets: 1 is after ".", 2 is after "..", the rest are the engine's cookies (never below 3),
// which stay valid while the directory changes.
#include <algorithm>
#include <cerrno>

#include "mount/ops.h"

namespace lcfs::mount {
namespace {

// A reply that is being filled.
class Entries {
 public:
  Entries(fuse_req_t req, std::size_t size, bool plus) : req_(req), plus_(plus) {
    auto const room = current_request().room;
    if (room.size() >= size) {
      buffer_ = {reinterpret_cast<char*>(room.data()), size};
    } else {
      own_.resize(size);
      buffer_ = own_;
    }
  }
  [[nodiscard]] bool fits(char const* name) const {
    fuse_entry_param const none{};
    std::size_t const need = plus_ ? fuse_add_direntry_plus(req_, nullptr, 0, name, &none, 0)
                                   : fuse_add_direntry(req_, nullptr, 0, name, &none.attr, 0);
    return need <= buffer_.size() - used_;
  }
  void add(char const* name, fuse_entry_param const& entry, std::uint64_t next) {
    auto const left = buffer_.subspan(used_);
    auto const offset = static_cast<off_t>(next);
    used_ += plus_ ? fuse_add_direntry_plus(req_, left.data(), left.size(), name, &entry, offset)
                   : fuse_add_direntry(req_, left.data(), left.size(), name, &entry.attr, offset);
  }
  int reply() { return fuse_reply_buf(req_, buffer_.data(), used_); }

 private:
  fuse_req_t req_;
  bool plus_;
  std::string own_;
  std::span<char> buffer_;
  std::size_t used_ = 0;
};

// "." and "..": the kernel uses only the number and the type.
fuse_entry_param dot(ino_t ino) {
  fuse_entry_param entry{};
  entry.attr.st_ino = ino;
  entry.attr.st_mode = S_IFDIR;
  return entry;
}

Status fill(Mount& mount, Node const& node, std::uint64_t offset, Entries& entries, bool plus,
            std::vector<NodeId>& reported) {
  Layer& layer = node.layer();
  auto const number = [&](Inode inode) {
    return mount.only ? inode : make_node(node.served->slot, inode);
  };
  if (offset < 1) {
    if (!entries.fits(".")) return {};
    entries.add(".", dot(number(node.inode)), 1);
  }
  if (offset < 2) {
    if (!entries.fits("..")) return {};
    Inode parent = node.inode;
    if (node.inode != node.served->root) {
      LCFS_TRY_ASSIGN(parent, layer.parent_of(node.inode));
    }
    entries.add(
        "..", dot(node.inode == node.served->root && !mount.only ? kRootNode : number(parent)), 2);
  }
  std::uint64_t const cookie = offset < 3 ? 0 : offset;
  if (!plus) {
    return layer.readdir(node.inode, cookie, [&](DirEntry const& found) {
      if (!entries.fits(found.name.c_str())) return false;
      fuse_entry_param entry{};
      entry.attr.st_ino = number(found.inode);
      entry.attr.st_mode = static_cast<mode_t>(found.type) << 12;
      entries.add(found.name.c_str(), entry, found.cookie);
      return true;
    });
  }
  return layer.readdir_attrs(node.inode, cookie, [&](DirEntry const& found, Attr const& attr) {
    if (!entries.fits(found.name.c_str())) return false;
    auto const entry = entry_of(mount, *node.served, attr);
    mount.remember(*node.served, entry.ino);
    reported.push_back(entry.ino);
    entries.add(found.name.c_str(), entry, found.cookie);
    return true;
  });
}

void read_directory(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset, bool plus) {
  Mount& mount = mount_of(req);
  if (offset < 0) return static_cast<void>(fuse_reply_err(req, EINVAL));
  size = std::min<std::size_t>(size, 1u << 20);
  if (mount.is_virtual(ino))
    return mount.pseudo.readdir(req, ino, size, static_cast<std::uint64_t>(offset), plus);
  auto const node = mount.node(ino);
  if (!node) return reply_error(req, mount, node.error());
  Entries entries(req, size, plus);
  std::vector<NodeId> reported;
  auto const filled =
      fill(mount, *node, static_cast<std::uint64_t>(offset), entries, plus, reported);
  bool const answered = filled && entries.reply() == 0;
  if (!answered) {
    for (auto const id : reported) mount.forget(id, 1);
  }
  if (!filled) reply_error(req, mount, filled.error());
}

}  // namespace

// ENOSYS: as op_open(); the kernel caches the contents of directories.
void op_opendir(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  static_cast<void>(ino);
  static_cast<void>(fi);
  fuse_reply_err(req, ENOSYS);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
                fuse_file_info* fi) {
  static_cast<void>(fi);
  read_directory(req, ino, size, offset, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset,
                    fuse_file_info* fi) {
  static_cast<void>(fi);
  read_directory(req, ino, size, offset, true);
}

}  // namespace lcfs::mount
