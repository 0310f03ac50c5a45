// SPDX-License-Identifier: Apache-2.0
// Layers that were removed and still take space: their records are dying.
//
// One that is in use goes on, also for writing, until the last pointer to its object goes.  Then,
// as at once for all others, checkpoints free its runs, a bounded number each.  What a layer in use
// inherits must stay too, so it holds its parent's object.
//
// Threads: let_go() from any thread, under any lock but mu_'s successors: it is called by
// ~LayerImpl.  mu_ guards what let_go() leaves; the structure lock protects the rest.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "engine/locks/lock_order.h"
#include "engine/store/layer_table.h"
#include "engine/types.h"

namespace lcfs {

class LayerImpl;

class RemovedLayers {
 public:
  RemovedLayers();
  ~RemovedLayers();
  RemovedLayers(RemovedLayers const&) = delete;
  RemovedLayers& operator=(RemovedLayers const&) = delete;

  // The last pointer to the object of a removed layer went.  base: what that object held; it is let
  // go of by the next checkpoint, so that a long row of bases does not recurse.
  void let_go(LayerId id, std::shared_ptr<LayerImpl> base) LCFS_EXCLUDES(mu_);

  // A removed layer joins: one whose object is in use, or one whose runs may be freed.
  void add_in_use(LayerId id, std::shared_ptr<LayerImpl> const& object) LCFS_REQUIRES(structure);
  void add_dying(LayerId id) LCFS_REQUIRES(structure);
  [[nodiscard]] bool is_in_use(LayerId id) const LCFS_REQUIRES_SHARED(structure);
  // The object of one that is in use; null: it is not, or is about to go.
  [[nodiscard]] std::shared_ptr<LayerImpl> object(LayerId id) const LCFS_REQUIRES_SHARED(structure);

  // Is there a layer whose runs may be freed?
  [[nodiscard]] bool any_dying() const LCFS_REQUIRES_SHARED(structure);
  [[nodiscard]] bool is_dying(LayerId id) const LCFS_REQUIRES_SHARED(structure);
  // The store tree has these dying layers: at opening, and when the store goes back.
  void set_dying(std::vector<LayerId> ids) LCFS_REQUIRES(structure);

  // Layers that were let go of since the last call: their runs may be freed now.
  void bury() LCFS_REQUIRES(structure) LCFS_EXCLUDES(mu_);
  // Frees a bounded number of runs; the blocks go to `freed`.
  Status reclaim(LayerTable& layers, std::vector<Extent>& freed) LCFS_REQUIRES(structure);
  // The end of the store's use: layers that are still in use end here, so that their runs can be
  // freed.
  void end_all() LCFS_REQUIRES(structure) LCFS_EXCLUDES(mu_);
  // Before the parts that layers need are destroyed.
  void clear() LCFS_EXCLUDES(mu_);

 private:
  struct Gone {
    LayerId id = 0;
    std::shared_ptr<LayerImpl> base{};
  };

  std::vector<LayerId> dying_ LCFS_GUARDED_BY(structure);
  std::unordered_map<LayerId, std::weak_ptr<LayerImpl>> in_use_ LCFS_GUARDED_BY(structure);
  mutable Mutex mu_ LCFS_LEVEL(released);
  std::vector<Gone> gone_ LCFS_GUARDED_BY(mu_);
};

}  // namespace lcfs
