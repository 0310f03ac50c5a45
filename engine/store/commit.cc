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

#include "engine/store/store_impl.h"

namespace lcfs {

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

namespace {

// The layer may be committed under that name: its record.
Result<LayerInfo> check_commit(StoreImpl const& s, LayerId running, std::string_view name)
    LCFS_REQUIRES_SHARED(structure) {
  LCFS_TRY_ASSIGN(LayerInfo info, s.catalog.layers.live(running));
  if (info.state != LayerState::kOpen) {
    return Error::read_only(fmt::format("'{0}' is read-only; to change it, create a writable copy: "
                                        "lcfs layer create NAME --parent "
                                        "{0}",
                                        info.name))
        .in(s.device.name());
  }
  LCFS_TRY(s.catalog.names.check_free(name));
  return info;
}

// The records of both layers.  `h`: what the running layer handed over under its old id; `id`: its
// new one.
struct Committed {
  LayerInfo frozen{}, running{};
};
Result<Committed> put_records(StoreImpl& s, Handover& h, LayerId id, std::string_view name)
    LCFS_REQUIRES(structure) {
  auto& layers = s.catalog.layers;
  auto& names = s.catalog.names;
  LayerId const old_id = h.id;
  std::vector<Extent> freed;
  LCFS_TRY(layers.take_over(h, s.removed.is_in_use(old_id), freed));
  s.dirty.pend(s.space, std::move(freed));
  Committed c;
  LCFS_TRY_ASSIGN(c.frozen, layers.record(old_id));
  c.running = c.frozen;
  c.running.id = id;
  c.running.parent = old_id;
  c.running.own_blocks = 0;
  c.frozen.state = LayerState::kFrozen;
  c.frozen.name = name;
  c.frozen.serve_id = id + 1;
  c.frozen.quota_blocks = 0;
  c.frozen.children = 1;
  c.frozen.created_ns = c.frozen.frozen_ns = now_ns();
  LCFS_TRY(layers.put(c.frozen));
  LCFS_TRY(layers.put(c.running));
  LCFS_TRY(names.erase(c.running.name));
  LCFS_TRY(names.put(c.running.name, id, NameType::kLayer));
  LCFS_TRY(names.put(name, old_id, NameType::kLayer));
  layers.count_new();
  LCFS_TRY(s.history.keep(fmt::format("layer commit {} --as {}", c.running.name, name)));
  return c;
}

}  // namespace

Result<LayerId> Store::commit_layer(LayerId running, std::string_view name, std::uint64_t& kept) {
  LCFS_TRY(check_layer_name(name));
  auto& s = *impl_;
  LCFS_TRY(s.room.make_ready(Urgency::kOrdinary));
  LCFS_TRY(s.checkpointer.wait_written(running));
  std::shared_ptr<LayerImpl> object;
  {
    ReadLock lock(s.catalog.mutex());
    LCFS_TRY_ASSIGN(LayerInfo const info, check_commit(s, running, name));
    LCFS_TRY_ASSIGN(object, s.registry.object(info));
  }
  LCFS_TRY(object->flush());  // most of the work, under no lock that others need
  LayerId id = 0;
  std::uint64_t noted = 0;
  {
    WriteLock lock(s.catalog.mutex());
    LCFS_TRY(check_commit(s, running, name));
    LCFS_TRY(s.catalog.tree.begin());
    id = s.ids.take(2);
    LCFS_TRY_ASSIGN(Handover h, object->split(id));
    // The object answers for another layer now, so there is no way back.
    auto committed = put_records(s, h, id, name);
    LCFS_TRY(s.catalog.tree.end_or_fail(committed ? Status{} : committed.error()));
    kept = s.history.newest();
    s.checkpointer.add_early(std::move(h));
    s.registry.commit(running, id, object);
    s.events.note(LayerEvent::kCommitted, committed->frozen, committed->running);
    noted = s.events.last_noted();
  }
  LCFS_TRY(s.finish(noted));
  return id;
}

}  // namespace lcfs
