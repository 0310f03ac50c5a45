// SPDX-License-Identifier: Apache-2.0
// What removing layers and images one after the other would do.  Applies the rules of the engine to
// a copy of the records; the store does not change.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "cli/json.h"
#include "engine/store.h"

namespace lcfs::cli {

// What prevents the removal of `layer`: "layers a, b and 7 more are based on it".  Cost: reads all
// layers and images.
std::string dependents(Store const& store, LayerInfo const& layer);
// Returns `error`; if it is kBusy, with a message that names the dependents.
Error explain_busy(Store const& store, LayerId id, Error error);

class RemovalPlan {
 public:
  explicit RemovalPlan(Store const& store) : store_(store) {}
  RemovalPlan(RemovalPlan const&) = delete;
  RemovalPlan& operator=(RemovalPlan const&) = delete;

  // As Store::remove_layer() and remove_image(), with their errors.
  Status layer(LayerId id, Remove how);
  Status image(ImageId id, std::string const& name);

  struct Line {
    std::string what{};  // "layer", "image" or "name"
    std::string name{};
    std::uint64_t blocks = 0;
    bool later = false;  // is deleted with its last child or image
  };
  [[nodiscard]] std::vector<Line> const& lines() const { return lines_; }
  void print(bool json, std::ostream& out) const;

 private:
  struct Known {
    LayerInfo info{};
    bool gone = false;
  };
  Result<Known*> record(LayerId id);
  Result<LayerId> remove(LayerId id);

  Store const& store_;
  std::unordered_map<LayerId, Known> known_{};
  // Those that each image still has.
  std::unordered_map<ImageId, std::vector<std::string>> names_{};
  std::vector<Line> lines_{};
};

}  // namespace lcfs::cli
