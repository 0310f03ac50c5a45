// SPDX-License-Identifier: Apache-2.0
// The layers that a mount serves, by slot and by name.
//
// A layer gets an entry at its first lookup.  A removed layer loses its name at once; its entry,
// and with it the layer itself, exists until the kernel has forgotten its last file.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/sync.h"
#include "engine/store.h"
#include "mount/node_id.h"
#include "mount/stats.h"

namespace lcfs::mount {

// A layer in service.
struct Served {
  Served(std::uint64_t serve_id_in, std::shared_ptr<Layer> layer_in)
      : serve_id(serve_id_in),
        slot(slot_of(serve_id_in)),
        generation(generation_of(serve_id_in)),
        layer(std::move(layer_in)),
        root(layer->root()) {}
  ~Served() { delete counters_.load(); }
  Served(Served const&) = delete;
  Served& operator=(Served const&) = delete;

  std::uint64_t const serve_id;
  std::uint32_t const slot;
  std::uint64_t const generation;
  std::shared_ptr<Layer> const layer;
  Inode const root;
  std::atomic<std::uint64_t> known{0};  // number of its nodes that the kernel knows
  std::atomic<bool> removed{false};
  std::uint64_t known_before = 0, expired_at = 0;  // used by Mount::expire_removed(): `known` at
                                                   // its last call, and at its last invalidation

  Counters& counters();  // created on first use, so that an unused layer costs nothing
  [[nodiscard]] bool used() const { return counters_.load(std::memory_order_acquire) != nullptr; }
  [[nodiscard]] std::string name() const;
  void set_name(std::string name);

 private:
  std::atomic<Counters*> counters_{nullptr};
  mutable Mutex mu_;
  std::string name_ LCFS_GUARDED_BY(mu_);
};
using ServedPtr = std::shared_ptr<Served>;

// Threads: any.
class LayerTable {
 public:
  explicit LayerTable(Store& store) : store_(store) {}

  // The layer of a slot; null if there is none any more.
  ServedPtr find(std::uint32_t slot);
  // The layer of this name.  ENOENT; EIO if another layer has the same slot.
  Result<ServedPtr> by_name(std::string_view name);
  Result<ServedPtr> serve(LayerInfo const& info);

  // Events of the store.
  void removed(LayerInfo const& info);
  void renamed(LayerInfo const& info);
  // Drops a removed layer if the kernel knows none of its nodes.
  void release_if_unused(ServedPtr const& served);

  void for_each(std::function<void(Served&)> const& take) const;
  // Call it when no request is served any more: frees inodes without names.
  void end();

 private:
  ServedPtr find_here(std::uint32_t slot) const;

  Store& store_;
  mutable SharedMutex mu_;
  std::unordered_map<std::uint32_t, ServedPtr> slots_ LCFS_GUARDED_BY(mu_);
};

}  // namespace lcfs::mount
