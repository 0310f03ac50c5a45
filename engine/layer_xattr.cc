// SPDX-License-Identifier: Apache-2.0
// Layers: extended attributes.  A value is cut into chunks of kXattrChunk bytes, one record each.
#include <cerrno>

#include "engine/layer_change.h"
#include "engine/probe.h"

namespace lcfs {

namespace {
constexpr std::uint64_t kChunkMask = 0xff;
constexpr std::uint64_t kXattrBlocks = 16;  // a leaf, its copy, and a split of each
}  // namespace

Result<std::optional<Key>> LayerImpl::find_xattr(Tree::Cursor& cursor, Inode inode,
                                                 std::string_view name,
                                                 std::optional<Key>* free) const {
  if (name.empty() || name.size() > kMaxName) return fs_error(ERANGE);
  auto match = [&](Key const& key, Bytes value) -> Result<bool> {
    LCFS_TRY_ASSIGN(auto const x, parse_xattr(key, value));
    return x.name == name;
  };
  LCFS_TRY_ASSIGN(auto const p, probe(cursor, {inode, kXattr, xattr_key(store_.hash_seed, name)},
                                      kXattrProbeStep, match));
  if (free != nullptr) *free = p.free;
  return p.found ? std::optional(p.found->key) : std::nullopt;
}

Result<std::string> LayerImpl::xattr_value(Key const& key) const {
  std::string out;
  std::uint32_t size = 0;
  LCFS_TRY(scan(tree_, key, {key.inode, kXattr, key.offset | kChunkMask},
                [&](Key const& at, Bytes value) -> Result<bool> {
                  if (at == key) {
                    LCFS_TRY_ASSIGN(auto const x, parse_xattr(at, value));
                    size = x.value_size;
                    value = x.first;
                  }
                  out.append(reinterpret_cast<char const*>(value.data()), value.size());
                  return out.size() < size;
                }));
  if (out.size() != size)
    return Error{Errc::kCorrupt, "xattr value is incomplete", 0, store_.device.name(), kNoOffset};
  return out;
}

Result<std::string> LayerImpl::getxattr(Inode inode, std::string_view name) {
  ReadLock lock(mu_);
  // Attributes stand behind their inode, mostly in the same leaf: one way down the tree tells that
  // there are none.
  Tree::Cursor cursor(tree_);
  LCFS_TRY(load_near(cursor, inode));
  LCFS_TRY_ASSIGN(auto const key, find_xattr(cursor, inode, name, nullptr));
  if (!key) return fs_error(ENODATA);
  return xattr_value(*key);
}

Result<std::vector<std::string>> LayerImpl::listxattr(Inode inode) {
  ReadLock lock(mu_);
  LCFS_TRY(load(inode));
  std::vector<std::string> names;
  LCFS_TRY(scan(tree_, {inode, kXattr, 0}, {inode, kXattr, ~0ull},
                [&](Key const& key, Bytes value) -> Result<bool> {
                  if ((key.offset & kChunkMask) != 0) return true;
                  LCFS_TRY_ASSIGN(auto const x, parse_xattr(key, value));
                  names.emplace_back(x.name);
                  return true;
                }));
  return names;
}

Status LayerImpl::put_xattr(Inode inode, std::string_view name, std::string_view value,
                            XattrMode mode) {
  if (value.size() > kMaxXattr) return fs_error(E2BIG);
  std::optional<Key> free, there;
  {
    Tree::Cursor cursor(tree_);
    LCFS_TRY_ASSIGN(there, find_xattr(cursor, inode, name, &free));
  }
  if (there && mode == XattrMode::kCreate) return fs_error(EEXIST);
  if (!there && mode == XattrMode::kReplace) return fs_error(ENODATA);
  if (!there && !free) return fs_error(ENOSPC);
  Key key = there ? *there : *free;
  if (there) LCFS_TRY(erase_xattr(key));
  XattrInfo first;
  first.name = name;
  first.value_size = static_cast<std::uint32_t>(value.size());
  first.first = as_bytes(value.substr(0, kXattrChunk));
  LCFS_TRY(tree_.put(key, as_bytes(encode_xattr(first))));
  while (value.size() > kXattrChunk) {
    value.remove_prefix(kXattrChunk);
    ++key.offset;
    LCFS_TRY(tree_.put(key, as_bytes(value.substr(0, kXattrChunk))));
  }
  return {};
}

Status LayerImpl::erase_xattr(Key const& key) {
  return tree_.erase_range(key, {key.inode, kXattr, key.offset | kChunkMask}, nullptr);
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
  std::uint64_t blocks = kOperationBlocks;
  for (auto const& x : node.xattrs) {
    // Its chunks fill leaves, three or more to one; the first may stand elsewhere than the last.
    blocks += kXattrBlocks + x.second.size() / kXattrChunk * 2 * kNodeBlocks;
  }
  return blocks;
}

Status LayerImpl::put_new_xattrs(Inode inode, NewNode const& node) {
  for (auto const& x : node.xattrs) LCFS_TRY(put_xattr(inode, x.first, x.second, XattrMode::kAny));
  return {};
}

Status LayerImpl::setxattr(Inode inode, std::string_view name, std::string_view value,
                           XattrMode mode) {
  return change(kOperationBlocks, Urgency::kOrdinary, [&]() LCFS_NO_TSA -> Status {
    LCFS_TRY_ASSIGN(InodeInfo info, load(inode));
    LCFS_TRY(put_xattr(inode, name, value, mode));
    info.ctime = now_timestamp();
    return store(inode, info);
  });
}

Status LayerImpl::removexattr(Inode inode, std::string_view name) {
  return change(kOperationBlocks, Urgency::kEmergency, [&]() LCFS_NO_TSA -> Status {
    LCFS_TRY_ASSIGN(InodeInfo info, load(inode));
    std::optional<Key> key;
    {
      Tree::Cursor cursor(tree_);
      LCFS_TRY_ASSIGN(key, find_xattr(cursor, inode, name, nullptr));
    }
    if (!key) return fs_error(ENODATA);
    LCFS_TRY(erase_xattr(*key));
    info.ctime = now_timestamp();
    return store(inode, info);
  });
}

}  // namespace lcfs
