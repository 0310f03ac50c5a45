// SPDX-License-Identifier: Apache-2.0
// The layers of an import, as the tree that their chain ids form: which the store already has and
// which must be received.  Stacks each as soon as it and all its ancestors are received.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/sync.h"
#include "engine/import.h"
#include "engine/store.h"
#include "importer/archive.h"
#include "importer/layer_receiver.h"
#include "importer/plan.h"

namespace lcfs::importer {

// add() first, from one thread; then received() from any.  The planned images must outlive it.
class LayerSet {
 public:
  LayerSet(Store& store, ImportTransaction& transaction, Archive const& archive)
      : store_(store), transaction_(transaction), archive_(archive) {}

  // A blob that is in the archive must be as long as its descriptor says, whether the store has its
  // layer or not: the same archive is refused everywhere.  One that the store has may be missing in
  // the archive.
  Status add(PlannedImage const& image);

  // The layers to receive, each after its parent.
  struct Wanted {
    std::size_t index = 0;  // for received()
    PlannedLayer const* layer = nullptr;
  };
  [[nodiscard]] std::vector<Wanted> wanted() const;

  Status check_present(PlannedLayer const& layer) const;

  // Verifies its digests, then stacks the layers that are ready.
  Status received(std::size_t index, ReceivedLayer layer);

  // After all layers were received: the layer of a chain.
  struct Known {
    LayerId id = 0;
    std::string name{};
    std::uint64_t bytes = 0;
    bool is_new = false;
  };
  Result<Known> known(Digest const& chain_id) const;

 private:
  struct Node {
    PlannedLayer const* layer = nullptr;
    std::size_t parent = 0;  // index of a node, or kNone: `base` is the parent
    LayerId base = 0;        // in the store
    std::vector<std::size_t> children{};
    ReceivedLayer received{};
    bool ready = false;  // received, not yet stacked
    LayerId id = 0;      // stacked
  };
  static constexpr std::size_t kNone = ~std::size_t{0};

  Status verify(PlannedLayer const& layer, ReceivedLayer const& got) const;
  Status stack(Node& node) LCFS_REQUIRES(mu_);

  Store& store_;
  ImportTransaction& transaction_;
  Archive const& archive_;
  std::map<Digest, std::size_t> by_chain_{};  // add() only writes it
  mutable Mutex mu_;                          // one thread stacks at a time
  std::vector<Node> nodes_{};  // their received, ready and id under mu_; the rest add() only
};

}  // namespace lcfs::importer
