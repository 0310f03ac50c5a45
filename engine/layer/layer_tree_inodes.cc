// SPDX-License-Identifier: Apache-2.0
// The records of a layer: inodes, orphans, space and counters.
#include <cerrno>

#include "engine/layer/layer_tree.h"

namespace lcfs {

LayerTree::LayerTree(Shared const& shared, LayerInfo const& info)
    : map_(shared.space),
      device_(shared.device),
      hash_seed_(shared.hash_seed),
      root_inode_(info.root_inode),
      space_(shared.space, info.id),
      tree_(shared.cache, space_, info.root),
      own_blocks_(info.own_blocks),
      used_blocks_(info.used_blocks),
      inodes_(info.inodes) {}

Error LayerTree::corrupt(char const* what) const { return Error::corrupt(what).in(device_.name()); }

// Space and counters ------------------------------------------------------------------------------

void LayerTree::count_nodes() {
  own_blocks_ =
      static_cast<std::uint64_t>(static_cast<std::int64_t>(own_blocks_) + space_.take_net());
  used_blocks_ =
      static_cast<std::uint64_t>(static_cast<std::int64_t>(used_blocks_) + tree_.take_used_delta());
}

void LayerTree::drop_blocks(Extent blocks, LayerId owner) {
  used_blocks_ -= blocks.count;
  if (owner == space_.owner()) space_.free(blocks);
}

std::vector<Extent> LayerTree::take_net() {
  space_.return_chunks();
  auto all = space_.take_allocated();
  auto freed = space_.take_freed();
  normalize(all);
  normalize(freed);
  auto kept = subtract(all, freed);
  map_.give_back(freed, false);
  return kept;
}

void LayerTree::begin_as(LayerId owner) {
  space_.set_owner(owner);
  own_blocks_ = 0;
}

LayerInfo LayerTree::describe(LayerInfo info) const {
  info.root = tree_.root();
  info.root_inode = root_inode_;
  info.own_blocks = own_blocks_;
  info.used_blocks = used_blocks_;
  info.inodes = inodes_;
  return info;
}

// Inodes ------------------------------------------------------------------------------------------

Result<InodeInfo> LayerTree::get_inode(Inode inode) const {
  LCFS_TRY_ASSIGN(auto const found, tree_.get({inode, kInode, 0}));
  if (!found) return fs_error(ENOENT);
  return parse_inode(found->key, found->value);
}

Result<InodeInfo> LayerTree::get_inode_near(Tree::Cursor& cursor, Inode inode) const {
  Key const key{inode, kInode, 0};
  LCFS_TRY(cursor.seek_near(key));
  if (!cursor.valid() || cursor.key() != key) return fs_error(ENOENT);
  return parse_inode(key, cursor.value());
}

Status LayerTree::add_inode(Inode inode, InodeInfo const& info) {
  LCFS_TRY(put_inode(inode, info));
  ++inodes_;
  return {};
}

Status LayerTree::append_inode(Inode inode, InodeInfo const& info) {
  LCFS_TRY(tree_.append({inode, kInode, 0}, encode_inode(info)));
  ++inodes_;
  return {};
}

Status LayerTree::remove_inodes(Inode first, Inode last) {
  inodes_ -= last - first + 1;
  return tree_.erase_range(
      {first, 0, 0}, {last, 0xff, ~0ull}, [&](Key const& key, Bytes value) -> Status {
        if (key.kind != kExtent) return {};
        LCFS_TRY_ASSIGN(auto const extent, parse_extent(key, value, total_blocks()));
        drop_blocks({extent.block, extent.count}, extent.owner);
        return {};
      });
}

Result<std::vector<Inode>> LayerTree::orphans() const {
  std::vector<Inode> out;
  LCFS_TRY(
      scan(tree_, {0, kOrphan, 0}, {0, kOrphan, ~0ull}, [&](Key const& key, Bytes) -> Result<bool> {
        out.push_back(key.offset);
        return true;
      }));
  return out;
}

}  // namespace lcfs
