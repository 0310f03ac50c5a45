// SPDX-License-Identifier: Apache-2.0
// Restoring a removed layer: its blocks are still history, so its records and runs come back as
// they were.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "engine/store/kept_tree.h"
#include "engine/store/store_impl.h"

namespace lcfs {

namespace {

struct Removed {
  KeptCheckpoint from{};
  std::vector<LayerInfo> layers{};                    // base first; all are to come back
  std::vector<std::vector<Extent>> runs{};            // of each
  std::vector<std::pair<Key, std::string>> others{};  // records of skeletons and digests, of all
};

// Finds the newest kept checkpoint that has a layer `name` which is removed now; `then`: the layers
// that it has.
Result<Removed> find_removed(StoreImpl& s, std::string_view name, std::uint64_t generation,
                             std::vector<LayerInfo>& then) LCFS_REQUIRES(structure) {
  if (generation != 0) LCFS_TRY(s.history.find(generation));
  auto const& kept = s.history.kept();
  for (std::size_t i = kept.size(); i-- > 0;) {
    if (generation != 0 && kept[i].generation != generation) continue;
    KeptTree const old(s, kept[i]);
    LCFS_TRY_ASSIGN(then, layers_in(old.tree, s.space.total()));
    auto const it = std::find_if(then.begin(), then.end(), [&name](LayerInfo const& l) {
      return l.name == name && !l.anonymous;
    });
    if (it == then.end()) continue;
    auto const is = s.catalog.layers.live(it->id);
    if (!is && is.error().code != Errc::kNotFound) return std::move(is).error();
    if (!is) return Removed{kept[i], {*it}, {}};
    if (is->name == name) return Error::exists(fmt::format("layer '{}' was not removed", name));
    // Renamed since, or frozen by a commit under another name.
  }
  return Error::not_found(
             fmt::format("no restore point{} has a removed layer '{}'; lcfs log lists them",
                         generation == 0 ? "" : fmt::format(" {}", generation), name))
      .in(s.device.name());
}

// Adds the layers below it that are removed too, down to one that is there.
Status find_below(StoreImpl& s, std::vector<LayerInfo> const& then, Removed& r)
    LCFS_REQUIRES(structure) {
  while (LayerId const below = r.layers.front().parent) {
    auto const it = std::find_if(then.begin(), then.end(),
                                 [below](LayerInfo const& l) { return l.id == below; });
    if (it == then.end() || below >= r.layers.front().id) {
      return Error::corrupt("a layer of a restore point has no parent; run lcfs fsck")
          .in(s.device.name());
    }
    auto const is = s.catalog.layers.live(below);
    if (is) {
      // The same tree then and now: frozen layers never change, but a store may have gone back and
      // taken another course.
      if (is->state == LayerState::kFrozen && is->root == it->root) return {};
      return Error::invalid(
          fmt::format("layer '{}', which it is based on, has changed since", is->name));
    }
    if (is.error().code != Errc::kNotFound) return std::move(is).error();
    r.layers.insert(r.layers.begin(), *it);
  }
  return {};
}

// Checks that their names and digests are free, and reads their runs and other records.
Status check_free(StoreImpl& s, Removed& r) LCFS_REQUIRES(structure) {
  KeptTree const old(s, r.from);
  for (auto const& l : r.layers) {
    if (s.removed.is_in_use(l.id)) {
      return Error::busy(
          fmt::format("removed layer '{}' is still in use; close its files first", l.name));
    }
    LCFS_TRY_ASSIGN(auto const hit, s.catalog.names.find(l.name));
    if (hit && !l.anonymous)
      return Error::exists(fmt::format(
          "the name '{}' is taken; rename its owner, or restore under another name with --as",
          l.name));
    if (l.has_digests) {
      LCFS_TRY_ASSIGN(auto const same, s.catalog.names.find_digest(l.chain_id, NameType::kLayer));
      if (same) {
        LCFS_TRY_ASSIGN(auto const other, s.catalog.layers.record(same->id));
        return Error::exists(
            fmt::format("layer '{}' is in the store under another name, '{}'", l.name, other.name));
      }
    }
    auto& runs = r.runs.emplace_back();
    LCFS_TRY(scan(old.tree, {l.id, kRun, 0}, {l.id, kRun, ~0ull},
                  [&](Key const& key, Bytes value) -> Result<bool> {
                    LCFS_TRY_ASSIGN(auto const run, parse_run(key, value, s.space.total()));
                    runs.push_back({run.start, run.count});
                    return true;
                  }));
    LCFS_TRY(scan(old.tree, {l.id, kSkeleton, 0}, {l.id, kTreeDigest, ~0ull},
                  [&](Key const& key, Bytes value) -> Result<bool> {
                    r.others.emplace_back(
                        key,
                        std::string(reinterpret_cast<char const*>(value.data()), value.size()));
                    return true;
                  }));
  }
  return {};
}

Status put_back(StoreImpl& s, Removed& r, std::string_view name) LCFS_REQUIRES(structure) {
  for (std::size_t i = 0; i < r.layers.size(); ++i) {
    auto& l = r.layers[i];
    l.children = i + 1 < r.layers.size() ? 1 : 0;
    l.images = 0;
    l.serve_id = s.ids.take();  // no handle of the removed one means this
    LCFS_TRY(s.catalog.layers.put(l));
    if (!l.anonymous) LCFS_TRY(s.catalog.names.put(l.name, l.id, NameType::kLayer));
    if (l.has_digests) LCFS_TRY(s.catalog.names.put_digest(l.chain_id, l.id, NameType::kLayer));
    LCFS_TRY(s.catalog.layers.add_runs(l.id, r.runs[i]));
    s.catalog.layers.count_new(l.own_blocks);
  }
  for (auto const& [key, value] : r.others)
    LCFS_TRY(s.catalog.tree.edit().put(key, as_bytes(value)));
  if (LayerId const below = r.layers.front().parent; below != 0) {
    LCFS_TRY_ASSIGN(auto parent, s.catalog.layers.record(below));
    ++parent.children;
    LCFS_TRY(s.catalog.layers.put(parent));
  }
  return s.history.keep(fmt::format("undo --layer {}", name));
}

// All of `r` is back in one change, with its blocks.
Status bring_back(StoreImpl& s, Removed& r, std::string_view name) LCFS_REQUIRES(structure) {
  LCFS_TRY(check_free(s, r));
  std::vector<Extent> blocks;
  for (auto const& runs : r.runs) blocks.insert(blocks.end(), runs.begin(), runs.end());
  LCFS_TRY(s.catalog.tree.begin(Urgency::kOrdinary, run_blocks(blocks.size())));
  if (!s.space.revive(blocks)) {
    return Error::corrupt("blocks of the layer are not in the history; run lcfs fsck")
        .in(s.device.name());
  }
  // They are in use again, so there is no way back.
  LCFS_TRY(s.catalog.tree.end_or_fail(put_back(s, r, name)));
  for (auto const& l : r.layers) s.events.note(LayerEvent::kCreated, l);
  return {};
}

// Runs that are still being freed are not history yet.
bool any_dying(StoreImpl const& s, Removed const& r) LCFS_REQUIRES(structure) {
  for (auto const& l : r.layers) {
    if (s.removed.is_dying(l.id)) return true;
  }
  return false;
}

}  // namespace

Result<std::vector<LayerInfo>> Store::bring_back(std::string_view name, std::uint64_t generation,
                                                 std::string_view as) {
  if (!as.empty()) LCFS_TRY(check_layer_name(as));
  auto& s = *impl_;
  LCFS_TRY(s.room.make_ready(Urgency::kOrdinary));
  LCFS_TRY(s.checkpointer.run(false));
  Removed r;
  std::uint64_t noted = 0;
  for (bool done = false; !done;) {
    {
      WriteLock lock(s.catalog.mutex());
      LCFS_TRY(s.health.check_writable());
      std::vector<LayerInfo> then;
      LCFS_TRY_ASSIGN(r, find_removed(s, name, generation, then));
      LCFS_TRY(find_below(s, then, r));
      if (!as.empty()) r.layers.back().name = as;
      done = !any_dying(s, r);
      if (done) LCFS_TRY(lcfs::bring_back(s, r, name));
      noted = s.events.last_noted();
    }
    LCFS_TRY(s.checkpointer.run(!done));  // frees the next of them
  }
  s.events.tell(noted);
  return std::move(r.layers);
}

}  // namespace lcfs
