// SPDX-License-Identifier: Apache-2.0
#include "engine/store/store_tree.h"

namespace lcfs {

StoreTree::StoreTree(NodeCache& cache, SpaceMap& space, Health& health, DirtySet const& dirty,
                     SuperblockInfo const& super)
    : space_(space),
      health_(health),
      dirty_(dirty),
      own_space_(space, 0),
      tree_(cache, own_space_, super.store_root),
      blocks_(super.store_tree_blocks) {
  own_space_.set_urgency(Urgency::kEmergency);
  space.set_store_tree(blocks_);
  tree_.set_generation(dirty.generation());
}

Status StoreTree::begin(Urgency urgency, std::uint64_t blocks) {
  LCFS_TRY(health_.check_writable());
  LCFS_TRY(space_.check_reserve(urgency));
  reservation_.reset();
  if (blocks != 0) {
    LCFS_TRY_ASSIGN(reservation_, Reservation::make(space_, blocks, urgency));
  }
  own_space_.set_payer(&reservation_);
  space_.note_release();  // perhaps a layer's
  tree_.set_generation(dirty_.generation());
  changed_ = true;
  return {};
}

Status StoreTree::end_or_fail(Status result) {
  result = end(std::move(result));
  return result ? std::move(result) : health_.fail(std::move(result).error());
}

void StoreTree::count() {
  blocks_ =
      static_cast<std::uint64_t>(static_cast<std::int64_t>(blocks_) + tree_.take_used_delta());
  space_.set_store_tree(blocks_);
}

std::vector<NodeRef> StoreTree::hand_over(std::uint64_t next_generation,
                                          std::vector<Extent>& freed) {
  auto nodes = tree_.seal();
  count();
  auto const own = own_space_.take_freed();
  freed.insert(freed.end(), own.begin(), own.end());
  (void)own_space_.take_allocated();
  own_space_.return_chunks();
  changed_ = false;
  tree_.set_generation(next_generation);
  return nodes;
}

void StoreTree::reset(NodePtr root, std::uint64_t blocks) {
  tree_.reset(root);
  blocks_ = blocks;
  space_.set_store_tree(blocks_);
}

}  // namespace lcfs
