// SPDX-License-Identifier: Apache-2.0
// Undoing the removal of a layer: its blocks are history still, so its records and its runs are put
// back as they were.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "engine/kept_tree.h"
#include "engine/store_impl.h"

namespace lcfs {

namespace {

struct Removed {
  KeptCheckpoint from{};
  std::vector<LayerInfo> layers{};                    // base first; all are to come back
  std::vector<std::vector<Extent>> runs{};            // of each
  std::vector<std::pair<Key, std::string>> others{};  // records of skeletons and digests, of all
};

Error exists(std::string what) { return Error{Errc::kExists, std::move(what)}; }

// The newest kept checkpoint that has a layer `name` which is removed now, and the layers it had
// then.
Result<Removed> find_removed(StoreImpl& s, std::string_view name, std::uint64_t generation,
                             std::vector<LayerInfo>& then) LCFS_REQUIRES(s.mu) {
  if (generation != 0) LCFS_TRY(s.kept_checkpoint(generation));
  for (std::size_t i = s.kept.size(); i-- > 0;) {
    if (generation != 0 && s.kept[i].generation != generation) continue;
    KeptTree const old(s, s.kept[i]);
    LCFS_TRY_ASSIGN(then, layers_in(old.tree, s.space.total()));
    auto const it = std::find_if(then.begin(), then.end(), [&name](LayerInfo const& l) {
      return l.name == name && !l.anonymous;
    });
    if (it == then.end()) continue;
    auto const is = s.live_record(it->id);
    if (!is && is.error().code != Errc::kNotFound) return std::move(is).error();
    if (!is) return Removed{s.kept[i], {*it}, {}};
    if (is->name == name) return exists(fmt::format("layer '{}' is there", name));
    // Renamed since, or frozen by a commit under another name.
  }
  return Error{
      Errc::kNotFound,
      fmt::format("no kept checkpoint{} has a layer '{}' that is removed now; lcfs log lists them",
                  generation == 0 ? "" : fmt::format(" {}", generation), name),
      ENOENT, s.device.name(), kNoOffset};
}

// Those below it that are removed too, down to one that is there.
Status find_below(StoreImpl& s, std::vector<LayerInfo> const& then, Removed& r)
    LCFS_REQUIRES(s.mu) {
  while (LayerId const below = r.layers.front().parent) {
    auto const it = std::find_if(then.begin(), then.end(),
                                 [below](LayerInfo const& l) { return l.id == below; });
    if (it == then.end() || below >= r.layers.front().id) {
      return Error{Errc::kCorrupt, "a kept layer without its parent; run lcfs fsck", 0,
                   s.device.name(), kNoOffset};
    }
    auto const is = s.live_record(below);
    if (is) {
      // The same tree then and now: frozen layers never change, but a store may have gone back, and
      // on another way.
      if (is->state == LayerState::kFrozen && is->root == it->root) return {};
      return Error{Errc::kInvalid,
                   fmt::format("layer '{}', which it stands on, is not what it was", is->name)};
    }
    if (is.error().code != Errc::kNotFound) return std::move(is).error();
    r.layers.insert(r.layers.begin(), *it);
  }
  return {};
}

// Their names and digests are free, and their runs are read.
Status check_free(StoreImpl& s, Removed& r) LCFS_REQUIRES(s.mu) {
  KeptTree const old(s, r.from);
  for (auto const& l : r.layers) {
    if (s.removed_in_use.contains(l.id)) {
      return Error{
          Errc::kBusy,
          fmt::format("layer '{}' is removed but still in use; close its files first", l.name)};
    }
    LCFS_TRY_ASSIGN(auto const hit, s.find_name(l.name));
    if (hit && !l.anonymous)
      return exists(fmt::format(
          "the name '{}' is taken; rename what has it, or bring this back under another with --as",
          l.name));
    if (l.has_digests) {
      LCFS_TRY_ASSIGN(auto const same, s.find_digest(l.chain_id, NameType::kLayer));
      if (same) {
        LCFS_TRY_ASSIGN(auto const other, s.layer_record(same->id));
        return exists(
            fmt::format("what was layer '{}' is in the store as '{}'", l.name, other.name));
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

Status put_back(StoreImpl& s, Removed& r, std::string_view name) LCFS_REQUIRES(s.mu) {
  for (std::size_t i = 0; i < r.layers.size(); ++i) {
    auto& l = r.layers[i];
    l.children = i + 1 < r.layers.size() ? 1 : 0;
    l.images = 0;
    l.serve_id = s.next_id.fetch_add(1);  // no handle of the removed one means this
    LCFS_TRY(s.put_layer_record(l));
    if (!l.anonymous) LCFS_TRY(s.put_name(l.name, l.id, NameType::kLayer));
    if (l.has_digests) LCFS_TRY(s.put_digest(l.chain_id, l.id, NameType::kLayer));
    LCFS_TRY(s.add_runs(l.id, r.runs[i]));
    s.layer_blocks += l.own_blocks;
    ++s.layer_count;
  }
  for (auto const& [key, value] : r.others) LCFS_TRY(s.tree.put(key, as_bytes(value)));
  if (LayerId const below = r.layers.front().parent; below != 0) {
    LCFS_TRY_ASSIGN(auto parent, s.layer_record(below));
    ++parent.children;
    LCFS_TRY(s.put_layer_record(parent));
  }
  return s.keep(fmt::format("undo --layer {}", name));
}

}  // namespace

Result<std::vector<LayerInfo>> Store::bring_back(std::string_view name, std::uint64_t generation,
                                                 std::string_view as) {
  if (!as.empty()) LCFS_TRY(check_layer_name(as));
  LCFS_TRY(impl_->make_ready(Urgency::kOrdinary));
  LCFS_TRY(impl_->checkpoint(false));
  Removed r;
  std::uint64_t noted = 0;
  for (bool done = false; !done;) {
    {
      auto& s = *impl_;
      WriteLock lock(s.mu);
      LCFS_TRY(s.check_writable());
      std::vector<LayerInfo> then;
      LCFS_TRY_ASSIGN(r, find_removed(s, name, generation, then));
      LCFS_TRY(find_below(s, then, r));
      if (!as.empty()) r.layers.back().name = as;
      // Runs that are still being given back are not history yet.
      done = std::none_of(r.layers.begin(), r.layers.end(), [&s](LayerInfo const& l) LCFS_NO_TSA {
        return std::find(s.dying.begin(), s.dying.end(), l.id) != s.dying.end();
      });
      if (done) {
        LCFS_TRY(check_free(s, r));
        std::vector<Extent> blocks;
        for (auto const& runs : r.runs) blocks.insert(blocks.end(), runs.begin(), runs.end());
        LCFS_TRY(
            s.begin_structure_change(Urgency::kOrdinary, StoreImpl::run_blocks(blocks.size())));
        if (!s.space.revive(blocks)) {
          return Error{Errc::kCorrupt, "blocks of the layer are not in the history; run lcfs fsck",
                       0, s.device.name(), kNoOffset};
        }
        // They are in use again, so there is no way back.
        auto put = put_back(s, r, name);
        if (put) put = s.end_structure_change(std::move(put), s.tree.changes());
        if (!put) return s.fail(std::move(put).error());
        for (auto const& l : r.layers) s.note(LayerEvent::kCreated, l);
        noted = s.last_noted();
      }
    }
    LCFS_TRY(impl_->checkpoint(!done));  // gives back the next of them
  }
  impl_->tell(noted);
  return std::move(r.layers);
}

}  // namespace lcfs
