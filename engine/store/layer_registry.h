// SPDX-License-Identifier: Apache-2.0
// Layers in memory: one object for a layer while anybody holds it.
//
// Threads: any function from any thread; mu_ guards everything.  A caller that must not miss a
// change of the layer's record holds the structure lock around its look at both.
#pragma once

#include <cstddef>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/result.h"
#include "engine/locks/lock_order.h"
#include "engine/types.h"

namespace lcfs {

class LayerImpl;
struct StoreImpl;

class LayerRegistry {
 public:
  // The store that layers belong to; it must outlive this.
  explicit LayerRegistry(StoreImpl& store) : store_(store) {}

  // The object of a layer, made of its record if there is none.  kNotFound: the layer is dying.
  Result<std::shared_ptr<LayerImpl>> object(LayerInfo const& info) LCFS_EXCLUDES(mu_);
  // The object if there is one; null: nobody has it.
  [[nodiscard]] std::shared_ptr<LayerImpl> known(LayerId id) const LCFS_EXCLUDES(mu_);
  // The same, and nobody finds it here any more.
  std::shared_ptr<LayerImpl> remove(LayerId id) LCFS_EXCLUDES(mu_);
  // A commit: `object` answers for layer `running` from now on, and not for `frozen` any more,
  // which is unwritten.
  void commit(LayerId frozen, LayerId running, std::shared_ptr<LayerImpl> const& object)
      LCFS_EXCLUDES(mu_);
  // kBusy: somebody holds a layer.
  Status check_unused() LCFS_EXCLUDES(mu_);

  // Layers whose data is not yet on the device, though frozen or inherited: only the object that
  // wrote it can read it.  Nobody else gets an object for one until a checkpoint has written it.
  void set_unwritten(LayerId id) LCFS_EXCLUDES(mu_);
  [[nodiscard]] bool is_unwritten(LayerId id) const LCFS_EXCLUDES(mu_);
  [[nodiscard]] std::vector<LayerId> unwritten() const LCFS_EXCLUDES(mu_);
  void set_written(std::vector<LayerId> const& ids) LCFS_EXCLUDES(mu_);

 private:
  static constexpr std::size_t kFewLayers = 1024;

  StoreImpl& store_;
  mutable Mutex mu_ LCFS_LEVEL(registry);
  std::unordered_map<LayerId, std::weak_ptr<LayerImpl>> layers_ LCFS_GUARDED_BY(mu_);
  std::size_t sweep_at_ LCFS_GUARDED_BY(mu_) = kFewLayers;  // size of layers_
  std::unordered_set<LayerId> unwritten_ LCFS_GUARDED_BY(mu_);
};

}  // namespace lcfs
