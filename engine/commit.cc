// SPDX-License-Identifier: Apache-2.0
// Committing a running layer: ids move, names, objects and open files stay.
//
// The frozen layer keeps the old id, because the blocks say that it owns them; the running one goes
// on under a new id as an empty clone of it, in the same LayerImpl.  Under the structure lock the
// layer is handed over as a checkpoint does it, so one checkpoint makes both layers durable or
// neither (I4); data and nodes are written by that checkpoint, and until then nobody gets an object
// for the frozen layer (`unwritten`), while the running layer's object still has the pages.
#include <fmt/format.h>

#include <cerrno>

#include "engine/import.h"
#include "engine/store_impl.h"

namespace lcfs {

Result<bool> StoreImpl::take_over(Handover& h, std::vector<Extent>& freed) {
  auto record = layer_record(h.id);
  if (!record) {
    if (record.error().code == Errc::kNotFound) return false;  // an import that came to nothing
    return std::move(record).error();
  }
  bool const removed = record->state == LayerState::kDying;
  if (removed && !removed_in_use.contains(h.id)) return false;
  if (!removed) {
    record->root = h.root;
    record->used_blocks = h.used_blocks;
    record->inodes = h.inodes;
  }
  layer_blocks += h.own_blocks - record->own_blocks;
  record->own_blocks = h.own_blocks;
  LCFS_TRY(put_layer_record(*record));
  LCFS_TRY(add_runs(h.id, std::move(h.allocated)));
  freed.insert(freed.end(), h.freed.begin(), h.freed.end());
  LCFS_TRY(remove_runs(h.id, std::move(h.freed)));
  return true;
}

Result<LayerId> Store::commit_layer(LayerId running, std::string_view name) {
  std::uint64_t kept = 0;
  return commit_layer(running, name, kept);
}

Result<LayerId> Store::commit_layer(LayerId running, std::string_view name,
                                    std::function<Result<CommittedImage>()> const& describe) {
  std::uint64_t kept = 0;
  LCFS_TRY_ASSIGN(LayerId const going_on, commit_layer(running, name, kept));
  LCFS_TRY_ASSIGN(auto const made, describe());
  LCFS_TRY(make_image(made.image, made.digests, kept));
  return going_on;
}

Result<LayerId> Store::commit_layer(LayerId running, std::string_view name, std::uint64_t& kept) {
  LCFS_TRY(check_layer_name(name));
  auto check = [&]() LCFS_REQUIRES_SHARED(impl_->mu) -> Result<LayerInfo> {
    LCFS_TRY_ASSIGN(LayerInfo info, impl_->live_record(running));
    if (info.state != LayerState::kOpen) {
      return Error{Errc::kReadOnly, fmt::format("layer '{}' is frozen already", info.name), EROFS,
                   impl_->device.name(), kNoOffset};
    }
    LCFS_TRY(impl_->check_free_name(name));
    return info;
  };
  LCFS_TRY(impl_->make_ready(Urgency::kOrdinary));
  LCFS_TRY(impl_->wait_written(running));
  std::shared_ptr<LayerImpl> object;
  {
    ReadLock lock(impl_->mu);
    LCFS_TRY_ASSIGN(LayerInfo const info, check());
    LCFS_TRY_ASSIGN(object, impl_->layer_object(info));
  }
  LCFS_TRY(object->flush());  // most of the work, under no lock that others need
  LayerInfo frozen, going_on;
  std::uint64_t noted = 0;
  {
    WriteLock lock(impl_->mu);
    LCFS_TRY_ASSIGN(frozen, check());
    LCFS_TRY(impl_->begin_structure_change());
    LayerId const id = impl_->next_id.fetch_add(2);
    LCFS_TRY_ASSIGN(Handover h, object->split(id));
    auto move = [&]() LCFS_REQUIRES(impl_->mu) -> Status {
      std::vector<Extent> freed;
      LCFS_TRY(impl_->take_over(h, freed));
      {
        Lock dirty(impl_->dirty_mu);
        impl_->space.pend(std::move(freed), impl_->generation);
      }
      LCFS_TRY_ASSIGN(frozen, impl_->layer_record(running));
      going_on = frozen;
      going_on.id = id;
      going_on.parent = running;
      going_on.own_blocks = 0;
      frozen.state = LayerState::kFrozen;
      frozen.name = name;
      frozen.serve_id = id + 1;
      frozen.quota_blocks = 0;
      frozen.children = 1;
      frozen.created_ns = frozen.frozen_ns = now_ns();
      LCFS_TRY(impl_->put_layer_record(frozen));
      LCFS_TRY(impl_->put_layer_record(going_on));
      LCFS_TRY(impl_->erase_name(going_on.name));
      LCFS_TRY(impl_->put_name(going_on.name, id, NameType::kLayer));
      LCFS_TRY(impl_->put_name(name, running, NameType::kLayer));
      ++impl_->layer_count;
      LCFS_TRY(impl_->keep(fmt::format("layer commit {} --as {}", going_on.name, name)));
      kept = impl_->kept.empty() ? 0 : impl_->kept.back().generation;
      return Ok{};
    };
    // The object answers for another layer now, so there is no way back.
    auto moved = move();
    if (moved) moved = impl_->end_structure_change(std::move(moved), impl_->tree.changes());
    if (!moved) return impl_->fail(std::move(moved).error());
    impl_->early.push_back(std::move(h));
    {
      Lock table(impl_->layers_mu);
      impl_->layers.erase(running);
      impl_->layers[id] = object;
      impl_->unwritten.insert(running);
    }
    impl_->note(LayerEvent::kCommitted, frozen, going_on);
    noted = impl_->last_noted();
  }
  LCFS_TRY(impl_->checkpoint(false));
  impl_->tell(noted);
  return going_on.id;
}

}  // namespace lcfs
