// SPDX-License-Identifier: Apache-2.0
#include "engine/store/layer_registry.h"

#include <algorithm>
#include <cerrno>

#include "engine/layer/layer_impl.h"
#include "engine/store/store_impl.h"

namespace lcfs {

Result<std::shared_ptr<LayerImpl>> LayerRegistry::object(LayerInfo const& info) {
  if (info.state == LayerState::kDying)
    return Error::not_found("the layer was removed").in(store_.device.name());
  Lock lock(mu_);
  auto& slot = layers_[info.id];
  if (auto known = slot.lock()) return known;
  auto made = std::make_shared<LayerImpl>(store_, info);
  slot = made;
  // Layers that nobody holds any more leave their slot behind; they are swept when the table has
  // doubled, so that it follows the work (I7).
  if (layers_.size() > sweep_at_) {
    std::erase_if(layers_, [](auto const& entry) { return entry.second.expired(); });
    sweep_at_ = std::max(kFewLayers, 2 * layers_.size());
  }
  return made;
}

std::shared_ptr<LayerImpl> LayerRegistry::known(LayerId id) const {
  Lock lock(mu_);
  auto const it = layers_.find(id);
  return it == layers_.end() ? nullptr : it->second.lock();
}

std::shared_ptr<LayerImpl> LayerRegistry::remove(LayerId id) {
  Lock lock(mu_);
  auto const it = layers_.find(id);
  if (it == layers_.end()) return nullptr;
  auto object = it->second.lock();
  layers_.erase(it);
  return object;
}

void LayerRegistry::commit(LayerId frozen, LayerId running,
                           std::shared_ptr<LayerImpl> const& object) {
  Lock lock(mu_);
  layers_.erase(frozen);
  layers_[running] = object;
  unwritten_.insert(frozen);
}

Status LayerRegistry::check_unused() {
  Lock lock(mu_);
  for (auto const& [id, weak] : layers_) {
    if (!weak.expired()) {
      return Error::busy(
                 "the store is in use; undo works on the whole store, so close all layers first")
          .in(store_.device.name());
    }
  }
  layers_.clear();
  return {};
}

void LayerRegistry::set_unwritten(LayerId id) {
  Lock lock(mu_);
  unwritten_.insert(id);
}

bool LayerRegistry::is_unwritten(LayerId id) const {
  Lock lock(mu_);
  return unwritten_.contains(id);
}

std::vector<LayerId> LayerRegistry::unwritten() const {
  Lock lock(mu_);
  return {unwritten_.begin(), unwritten_.end()};
}

void LayerRegistry::set_written(std::vector<LayerId> const& ids) {
  Lock lock(mu_);
  for (LayerId const id : ids) unwritten_.erase(id);
}

}  // namespace lcfs
