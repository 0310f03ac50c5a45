// SPDX-License-Identifier: Apache-2.0
// The layers that changed since the last hand-over to a checkpoint, and the generation that is
// being built: what changes now becomes durable with it.
//
// The generation goes up only under the structure lock, by the checkpoint that takes over; so it
// stands still for the holder of that lock.  A layer that is in the set has that generation's
// number in its tree, and a checkpoint of it waits for the layer's lock.
//
// Threads: any function from any thread; mu_ guards everything.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "engine/locks/lock_order.h"
#include "engine/space/space_map.h"

namespace lcfs {

class LayerImpl;

class DirtySet {
 public:
  explicit DirtySet(std::uint64_t generation);
  ~DirtySet();
  DirtySet(DirtySet const&) = delete;
  DirtySet& operator=(DirtySet const&) = delete;

  // The generation being built.
  [[nodiscard]] std::uint64_t generation() const LCFS_EXCLUDES(mu_);
  // A layer is about to change for the first time since it was handed over.  Returns the generation
  // that its changes belong to.
  std::uint64_t add(std::shared_ptr<LayerImpl> layer) LCFS_EXCLUDES(mu_);
  [[nodiscard]] bool empty() const LCFS_EXCLUDES(mu_);

  struct Taken {
    std::uint64_t generation = 0;
    std::vector<std::shared_ptr<LayerImpl>> layers{};
  };
  // Ends the generation being built and empties the set.  Nothing happens, and nothing is returned,
  // if no layer is in it and the caller has no other reason (`needed`).
  std::optional<Taken> take(bool needed) LCFS_REQUIRES(structure) LCFS_EXCLUDES(mu_);
  // Blocks freed in the generation being built.
  void pend(SpaceMap& space, std::vector<Extent> freed) LCFS_EXCLUDES(mu_);
  // If nobody but the caller and this set has the object, the set forgets it.  False: somebody has.
  bool forget_unused(std::shared_ptr<LayerImpl> const& layer) LCFS_EXCLUDES(mu_);
  // The end of the store's use: lets go of all layers.
  void clear() LCFS_EXCLUDES(mu_);

 private:
  mutable Mutex mu_ LCFS_LEVEL(dirty);
  std::uint64_t generation_ LCFS_GUARDED_BY(mu_);
  std::vector<std::shared_ptr<LayerImpl>> layers_ LCFS_GUARDED_BY(mu_);
};

}  // namespace lcfs
