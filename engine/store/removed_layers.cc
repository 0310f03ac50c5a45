// SPDX-License-Identifier: Apache-2.0
#include "engine/store/removed_layers.h"

#include <algorithm>
#include <utility>

#include "engine/layer/layer_impl.h"

namespace lcfs {

RemovedLayers::RemovedLayers() = default;
RemovedLayers::~RemovedLayers() = default;

void RemovedLayers::let_go(LayerId id, std::shared_ptr<LayerImpl> base) {
  Lock lock(mu_);
  gone_.push_back({id, std::move(base)});
}

void RemovedLayers::add_in_use(LayerId id, std::shared_ptr<LayerImpl> const& object) {
  in_use_.emplace(id, object);
}

void RemovedLayers::add_dying(LayerId id) { dying_.push_back(id); }

bool RemovedLayers::is_in_use(LayerId id) const { return in_use_.contains(id); }

std::shared_ptr<LayerImpl> RemovedLayers::object(LayerId id) const {
  auto const it = in_use_.find(id);
  return it == in_use_.end() ? nullptr : it->second.lock();
}

bool RemovedLayers::any_dying() const { return !dying_.empty(); }

bool RemovedLayers::is_dying(LayerId id) const {
  return std::find(dying_.begin(), dying_.end(), id) != dying_.end();
}

void RemovedLayers::set_dying(std::vector<LayerId> ids) { dying_ = std::move(ids); }

void RemovedLayers::bury() {
  for (;;) {
    std::vector<Gone> list;
    {
      Lock lock(mu_);
      list.swap(gone_);
    }
    if (list.empty()) return;
    for (auto const& g : list) {
      if (in_use_.erase(g.id) != 0) dying_.push_back(g.id);
    }
    // The end of the list lets go of bases, which may be the next to go.
  }
}

Status RemovedLayers::reclaim(LayerTable& layers, std::vector<Extent>& freed) {
  constexpr std::size_t kBatch = 1u << 16;  // runs a checkpoint frees: bounds its length (I9)
  std::size_t budget = kBatch;
  while (!dying_.empty() && budget > 0) {
    LCFS_TRY_ASSIGN(auto const runs, layers.reclaim(dying_.back(), budget));
    freed.insert(freed.end(), runs.begin(), runs.end());
    if (runs.size() >= budget) return {};  // the next checkpoint goes on with it
    budget -= runs.size();
    dying_.pop_back();
  }
  return {};
}

void RemovedLayers::end_all() {
  bury();
  for (auto const& [id, weak] : in_use_) {
    if (auto const object = weak.lock()) object->discard();
    dying_.push_back(id);
  }
  in_use_.clear();
}

void RemovedLayers::clear() {
  for (;;) {
    std::vector<Gone> list;
    Lock lock(mu_);
    list.swap(gone_);
    if (list.empty()) return;
  }
}

}  // namespace lcfs
