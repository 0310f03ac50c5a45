// SPDX-License-Identifier: Apache-2.0
#include "engine/store/dirty_set.h"

#include <algorithm>
#include <utility>

#include "engine/layer/layer_impl.h"

namespace lcfs {

DirtySet::DirtySet(std::uint64_t generation) : generation_(generation) {}
DirtySet::~DirtySet() = default;

std::uint64_t DirtySet::generation() const {
  Lock lock(mu_);
  return generation_;
}

std::uint64_t DirtySet::add(std::shared_ptr<LayerImpl> layer) {
  Lock lock(mu_);
  layers_.push_back(std::move(layer));
  return generation_;
}

bool DirtySet::empty() const {
  Lock lock(mu_);
  return layers_.empty();
}

std::optional<DirtySet::Taken> DirtySet::take(bool needed) {
  Lock lock(mu_);
  if (layers_.empty() && !needed) return std::nullopt;
  return Taken{generation_++, std::exchange(layers_, {})};
}

void DirtySet::pend(SpaceMap& space, std::vector<Extent> freed) {
  // Under the lock: were a checkpoint to take the generation in between, these blocks would be
  // pending for one that is done already.
  Lock lock(mu_);
  space.pend(std::move(freed), generation_);
}

bool DirtySet::forget_unused(std::shared_ptr<LayerImpl> const& layer) {
  Lock lock(mu_);
  auto const it = std::find(layers_.begin(), layers_.end(), layer);
  bool const here = it != layers_.end();
  if (layer.use_count() != 1 + (here ? 1 : 0)) return false;
  if (here) layers_.erase(it);
  return true;
}

void DirtySet::clear() {
  std::vector<std::shared_ptr<LayerImpl>> layers;
  Lock lock(mu_);
  layers.swap(layers_);
}

}  // namespace lcfs
