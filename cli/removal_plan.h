// SPDX-License-Identifier: Apache-2.0
// What removing layers and images one after the other would do: the engine's rules on a copy of the
// records.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "cli/json.h"
#include "engine/store.h"

namespace lcfs::cli {

// Who keeps `layer` from going: "layers a, b and 7 more stand on it".  Looks at all layers and
// images.
std::string in_the_way(Store const& store, LayerInfo const& layer);
// `error`, if it is kBusy, as an error that names them.
Error explain_busy(Store const& store, LayerId id, Error error);

class RemovalPlan {
 public:
  explicit RemovalPlan(Store const& store) : store_(store) {}
  RemovalPlan(RemovalPlan const&) = delete;
  RemovalPlan& operator=(RemovalPlan const&) = delete;

  // As Store::remove_layer() and remove_image() would; their errors.
  Status layer(LayerId id, Remove how);
  Status image(ImageId id, std::string const& name);

  struct Line {
    std::string what{};  // "layer", "image" or "name"
    std::string name{};
    std::uint64_t blocks = 0;
    bool later = false;  // goes with the last that stands on it
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
  std::unordered_map<ImageId, std::vector<std::string>> names_{};  // that images still have
  std::vector<Line> lines_{};
};

}  // namespace lcfs::cli
