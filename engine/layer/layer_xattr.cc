// SPDX-License-Identifier: Apache-2.0
// Layers: extended attributes.
#include <cerrno>

#include "engine/layer/layer_change.h"

namespace lcfs {

Result<std::string> LayerImpl::getxattr(Inode inode, std::string_view name) {
  ReadLock lock(mu_);
  // Attributes stand behind their inode, mostly in the same leaf: one way down the tree tells that
  // there are none.
  auto cursor = tree_.cursor();
  LCFS_TRY(load_near(cursor, inode));
  LCFS_TRY_ASSIGN(auto const key, tree_.find_xattr(cursor, inode, name));
  if (!key) return fs_error(ENODATA);
  return tree_.xattr_value(*key);
}

Result<std::vector<std::string>> LayerImpl::listxattr(Inode inode) {
  ReadLock lock(mu_);
  LCFS_TRY(load(inode));
  return tree_.xattr_names(inode);
}

Status LayerImpl::check_new_xattrs(NewNode const& node) {
  if (node.xattrs.size() > kMaxNewXattrs) return fs_error(E2BIG);
  for (auto const& x : node.xattrs) {
    if (x.first.empty() || x.first.size() > kMaxName) return fs_error(ERANGE);
    if (x.second.size() > kMaxXattr) return fs_error(E2BIG);
  }
  return {};
}

std::uint64_t LayerImpl::new_node_blocks(NewNode const& node) {
  constexpr std::uint64_t kXattrBlocks = 16;  // a leaf, its copy, and a split of each
  std::uint64_t blocks = kOperationBlocks;
  for (auto const& x : node.xattrs) {
    // Its chunks fill leaves, three or more to one; the first may stand elsewhere than the last.
    blocks += kXattrBlocks + x.second.size() / kXattrChunk * 2 * kNodeBlocks;
  }
  return blocks;
}

Status LayerImpl::put_new_xattrs(Inode inode, NewNode const& node) {
  for (auto const& [name, value] : node.xattrs)
    LCFS_TRY(tree_.put_xattr(inode, name, value, XattrMode::kAny));
  return {};
}

Status LayerImpl::setxattr(Inode inode, std::string_view name, std::string_view value,
                           XattrMode mode) {
  return change(kOperationBlocks, Urgency::kOrdinary, [&]() LCFS_REQUIRES(mu_) -> Status {
    LCFS_TRY_ASSIGN(InodeInfo info, load(inode));
    LCFS_TRY(tree_.put_xattr(inode, name, value, mode));
    info.ctime = now_timestamp();
    return files_.put_inode(inode, info);
  });
}

Status LayerImpl::removexattr(Inode inode, std::string_view name) {
  return change(kOperationBlocks, Urgency::kEmergency, [&]() LCFS_REQUIRES(mu_) -> Status {
    LCFS_TRY_ASSIGN(InodeInfo info, load(inode));
    std::optional<Key> key;
    {
      auto cursor = tree_.cursor();
      LCFS_TRY_ASSIGN(key, tree_.find_xattr(cursor, inode, name));
    }
    if (!key) return fs_error(ENODATA);
    LCFS_TRY(tree_.erase_xattr(*key));
    info.ctime = now_timestamp();
    return files_.put_inode(inode, info);
  });
}

}  // namespace lcfs
