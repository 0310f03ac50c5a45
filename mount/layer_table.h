// SPDX-License-Identifier: Apache-2.0
// The layers that a mount serves, by slot and by name.
//
// A layer gets its entry when it is first looked up.  A removed layer loses its name at once; its
// entry, and with it the layer itself, lives until the kernel has forgotten its last file.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "engine/store.h"
#include "engine/sync.h"
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
  std::atomic<std::uint64_t> known{0};  // nodes of it that the kernel knows
  std::atomic<bool> removed{false};
  std::uint64_t known_before = 0, expired_at = 0;  // Mount::expire_removed()'s: `known` when it
                                                   // last looked, and last did something

  Counters& counters();  // made when first needed: a layer nobody uses costs nothing
  [[nodiscard]] bool used() const { return counters_.load(std::memory_order_acquire) != nullptr; }
  [[nodiscard]] std::string name() const;
  void set_name(std::string name);

 private:
  std::atomic<Counters*> counters_{nullptr};
  mutable Mutex mu_;
  std::string name_ LCFS_GUARDED_BY(mu_);
};
using ServedPtr = std::shared_ptr<Served>;

class LayerTable {
 public:
  explicit LayerTable(Store& store) : store_(store) {}

  // The layer of a node id; null if there is none any more.
  ServedPtr find(std::uint32_t slot);
  // By its whole name.  ENOENT; EIO if two layers want one slot.
  Result<ServedPtr> by_name(std::string_view name);
  Result<ServedPtr> serve(LayerInfo const& info);

  // What happened in the store.
  void removed(LayerInfo const& info);
  void renamed(LayerInfo const& info);
  // Lets a removed layer go if the kernel knows nothing of it.
  void release_if_unused(ServedPtr const& served);

  void for_each(std::function<void(Served&)> const& take) const;
  // Nobody is served any more: inodes without names go.
  void end();

 private:
  ServedPtr find_here(std::uint32_t slot) const;

  Store& store_;
  mutable SharedMutex mu_;
  std::unordered_map<std::uint32_t, ServedPtr> slots_ LCFS_GUARDED_BY(mu_);
};

}  // namespace lcfs::mount
