// SPDX-License-Identifier: Apache-2.0
#include "cli/image_lookup.h"

#include <algorithm>

namespace lcfs::cli {

Result<std::vector<LayerInfo>> chain_of(Store const& store, LayerId top) {
  std::vector<LayerInfo> chain;
  for (LayerId at = top; at != 0;) {
    LCFS_TRY_ASSIGN(auto info, store.layer_info(at));
    if (info.parent >= at)
      return Error::corrupt("its parents do not lead to a base layer").in(info.name);
    at = info.parent;
    chain.push_back(std::move(info));
  }
  std::reverse(chain.begin(), chain.end());
  return chain;
}

Result<std::optional<ImageDetails>> image_of(Store const& store,
                                             std::vector<LayerInfo> const& chain, bool above) {
  std::optional<ImageDetails> best, on_it;
  std::size_t best_at = 0;
  std::vector<ImageDetails> others;
  LCFS_TRY(store.for_each_image([&](ImageDetails const& image) {
    auto const at = std::find_if(chain.begin(), chain.end(),
                                 [&](LayerInfo const& l) { return l.id == image.info.top_layer; });
    if (at == chain.end()) {
      if (above) others.push_back(image);
    } else if (auto const index = static_cast<std::size_t>(at - chain.begin());
               !best || index > best_at) {
      best = image;
      best_at = index;
    }
    return true;
  }));
  if (best || chain.empty()) return best;
  for (auto& image : others) {
    LCFS_TRY_ASSIGN(auto const layers, store.image_layers(image.info.id));
    if (std::any_of(layers.begin(), layers.end(),
                    [&](LayerInfo const& l) { return l.id == chain.back().id; }))
      return std::optional(std::move(image));
  }
  return std::optional<ImageDetails>{};
}

}  // namespace lcfs::cli
