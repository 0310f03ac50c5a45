// SPDX-License-Identifier: Apache-2.0
#include "mount/layer_table.h"

#include <fmt/format.h>

#include <cerrno>

namespace lcfs::mount {

Counters& Served::counters() {
  Counters* now = counters_.load(std::memory_order_acquire);
  if (now != nullptr) return *now;
  auto fresh = std::make_unique<Counters>();
  if (counters_.compare_exchange_strong(now, fresh.get(), std::memory_order_acq_rel))
    now = fresh.release();
  return *now;
}

std::string Served::name() const {
  Lock lock(mu_);
  return name_;
}

void Served::set_name(std::string name) {
  Lock lock(mu_);
  name_ = std::move(name);
}

ServedPtr LayerTable::find_here(std::uint32_t slot) const {
  ReadLock lock(mu_);
  auto const it = slots_.find(slot);
  return it == slots_.end() ? nullptr : it->second;
}

ServedPtr LayerTable::find(std::uint32_t slot) {
  if (auto served = find_here(slot)) return served;
  // A file handle from an earlier server: the layer has not been looked up yet.
  std::optional<LayerInfo> found;
  auto const walked = store_.for_each_layer([&](LayerInfo const& info) {
    if (slot_of(info.serve_id) == slot) found = info;
    return !found;
  });
  if (!walked || !found) return nullptr;
  auto served = serve(*found);
  return served ? *served : nullptr;
}

Result<ServedPtr> LayerTable::by_name(std::string_view name) {
  auto const info = store_.find_layer(name);
  if (!info)
    return fs_error(info.error().code == Errc::kNotFound ? ENOENT : info.error().to_errno());
  return serve(*info);
}

Result<ServedPtr> LayerTable::serve(LayerInfo const& info) {
  std::uint32_t const slot = slot_of(info.serve_id);
  if (slot == 0)
    return Error::unsupported("a mount cannot show a layer with this number; commit or clone it")
        .as(EIO)
        .in(info.name);
  auto const right = [&](ServedPtr const& served) -> Result<ServedPtr> {
    if (served->serve_id == info.serve_id) return served;
    return Error::unsupported("another layer in use has the same node ids").as(EIO).in(info.name);
  };
  if (auto served = find_here(slot)) return right(served);
  LCFS_TRY_ASSIGN(auto layer, store_.layer(info.id));
  if (!layer->frozen()) LCFS_TRY(layer->hold_unlinked(true));
  auto fresh = std::make_shared<Served>(info.serve_id, std::move(layer));
  fresh->set_name(info.name);
  WriteLock lock(mu_);
  auto const placed = slots_.try_emplace(slot, fresh);
  return right(placed.first->second);
}

void LayerTable::removed(LayerInfo const& info) {
  auto const served = find_here(slot_of(info.serve_id));
  if (served == nullptr || served->serve_id != info.serve_id) return;
  served->removed = true;
  release_if_unused(served);
}

void LayerTable::renamed(LayerInfo const& info) {
  auto const served = find_here(slot_of(info.serve_id));
  if (served != nullptr && served->serve_id == info.serve_id) served->set_name(info.name);
}

void LayerTable::release_if_unused(ServedPtr const& served) {
  if (!served->removed || served->known != 0) return;
  WriteLock lock(mu_);
  auto const it = slots_.find(served->slot);
  if (it != slots_.end() && it->second == served) slots_.erase(it);
}

void LayerTable::for_each(std::function<void(Served&)> const& take) const {
  std::vector<ServedPtr> all;
  {
    ReadLock lock(mu_);
    for (auto const& [slot, served] : slots_) all.push_back(served);
  }
  for (auto const& served : all) take(*served);
}

void LayerTable::end() {
  for_each([](Served& served) {
    if (!served.layer->frozen())
      static_cast<void>(
          served.layer->hold_unlinked(false));  // what is left is freed at the next use
  });
  WriteLock lock(mu_);
  slots_.clear();
}

}  // namespace lcfs::mount
