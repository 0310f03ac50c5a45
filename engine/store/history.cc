// SPDX-License-Identifier: Apache-2.0
// Checkpoints that are kept: which, for how long, and going back (doc/design/history.md).
#include "engine/store/history.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "engine/store/kept_tree.h"
#include "engine/store/store_impl.h"
#include "engine/store/store_walk.h"

namespace lcfs {

namespace {
constexpr std::uint32_t kDefaultKeep = 8;
// History may be this part of the store, and more where as much is free.
constexpr std::uint64_t kHistoryShare = 8;

KeptCheckpoint as_kept(SuperblockInfo const& super, std::string text) {
  return {super.generation,   super.store_root,  super.written_ns,  super.store_tree_blocks,
          super.layer_blocks, super.layer_count, super.image_count, std::move(text)};
}
}  // namespace

History::History(StoreTree& tree, SpaceMap& space, Superblocks const& superblocks,
                 DirtySet const& dirty, Device const& device,
                 std::optional<std::uint32_t> keep_option,
                 std::optional<std::uint32_t> keep_setting)
    : tree_(tree),
      space_(space),
      superblocks_(superblocks),
      dirty_(dirty),
      device_(device),
      keep_option_(keep_option),
      keep_setting_(keep_setting ? *keep_setting + 1 : 0) {}

std::uint32_t History::limit() const {
  if (keep_option_) return std::min(*keep_option_, kMaxKept);
  return setting().value_or(kDefaultKeep);
}

std::optional<std::uint32_t> History::setting() const {
  auto const value = keep_setting_.load(std::memory_order_relaxed);
  return value == 0 ? std::nullopt : std::optional(value - 1);
}

void History::set_setting(std::uint32_t count) { keep_setting_ = count + 1; }

std::uint64_t History::newest() const { return kept_.empty() ? 0 : kept_.back().generation; }

Status History::keep(std::string_view what) {
  auto const most = limit();
  if (most == 0 || space_.low()) return drop(0);
  std::uint64_t const last = newest();
  auto const now = superblocks_.hold([&](SuperblockInfo const& in_force) {
    // A change that comes after the same checkpoint as the one before shares it.
    if (in_force.generation != last) space_.keep(in_force.generation);
    return in_force;
  });
  if (now.generation != last) kept_.push_back(as_kept(now, {}));
  LCFS_TRY(describe_newest(kept_.back().text.empty() ? "" : ", ", what));
  return drop(most);
}

Status History::keep_with(std::uint64_t joins, std::string_view more, std::string_view what) {
  if (joins == 0 || newest() != joins) return keep(what);
  return describe_newest(" ", more);
}

Status History::describe_newest(std::string_view between, std::string_view what) {
  auto& k = kept_.back();
  if (k.text.size() + between.size() + what.size() <= kMaxKeptText || k.text.empty()) {
    k.text += between;
    k.text += what;
    k.text.resize(std::min<std::size_t>(k.text.size(), kMaxKeptText));
  }
  return put_record(k);
}

Status History::put_record(KeptCheckpoint const& k) {
  return tree_.edit().put({0, kCheckpoint, k.generation}, as_bytes(encode_checkpoint(k)));
}

Status History::drop(std::size_t left) { return drop(left, dirty_.generation()); }

Status History::drop(std::size_t left, std::uint64_t building) {
  while (kept_.size() > left) {
    std::uint64_t const oldest = kept_.front().generation;
    LCFS_TRY(tree_.edit().erase({0, kCheckpoint, oldest}));
    kept_.erase(kept_.begin());
    space_.drop(oldest, kept_.empty() ? 0 : kept_.front().generation, building);
  }
  return {};
}

Status History::bound(std::uint64_t building) {
  for (auto const& k : lost_) LCFS_TRY(tree_.edit().erase({0, kCheckpoint, k.generation}));
  lost_.clear();
  if (kept_.empty()) return {};
  if (space_.low()) return drop(0, building);
  for (auto c = space_.counts();
       !kept_.empty() && c.history > std::max(space_.total() / kHistoryShare, c.free);
       c = space_.counts()) {
    LCFS_TRY(drop(kept_.size() - 1, building));
  }
  return {};
}

Result<KeptCheckpoint> History::find(std::uint64_t generation) const {
  for (auto const& k : kept_) {
    if (k.generation == generation) return k;
  }
  return Error::not_found(fmt::format("no restore point {}; lcfs log lists them", generation))
      .in(device_.name());
}

void History::set(std::vector<KeptCheckpoint> kept, std::vector<KeptCheckpoint> lost) {
  kept_ = std::move(kept);
  lost_ = std::move(lost);
}

Status History::replace(std::vector<KeptCheckpoint> kept) {
  set(std::move(kept), {});
  LCFS_TRY(tree_.edit().erase_range({0, kCheckpoint, 0}, {0, kCheckpoint, ~0ull}, nullptr));
  for (auto const& k : kept_) LCFS_TRY(put_record(k));
  return drop(std::max<std::size_t>(limit(), 1));
}

// Asking the store --------------------------------------------------------------------------------

std::vector<HistoryEntry> Store::history() const {
  ReadLock lock(impl_->catalog.mutex());
  std::vector<HistoryEntry> out;
  for (auto const& k : impl_->history.kept())
    out.push_back({k, impl_->space.history_of(k.generation)});
  return out;
}

std::uint32_t Store::keep() const { return impl_->history.limit(); }

Result<KeptContents> Store::kept_contents(std::uint64_t generation) const {
  ReadLock lock(impl_->catalog.mutex());
  LCFS_TRY_ASSIGN(auto const k, impl_->history.find(generation));
  KeptTree const old(*impl_, k);
  KeptContents out;
  LCFS_TRY_ASSIGN(out.layers, layers_in(old.tree, impl_->space.total()));
  LCFS_TRY_ASSIGN(auto const ids, images_in(old.tree));
  for (ImageId const id : ids) {
    LCFS_TRY_ASSIGN(auto details, image_in(old.tree, id));
    out.images.push_back(std::move(details));
  }
  return out;
}

// Keeping less ------------------------------------------------------------------------------------

Status Store::drop_history(std::size_t left) {
  LCFS_TRY(impl_->room.make_ready(Urgency::kEmergency));
  {
    WriteLock lock(impl_->catalog.mutex());
    auto& history = impl_->history;
    if (history.kept().size() <= left) return {};
    LCFS_TRY(impl_->catalog.tree.change(
        Urgency::kEmergency, 0, [&]() LCFS_REQUIRES(structure) { return history.drop(left); }));
  }
  return impl_->room.settle();
}

Status Store::set_keep(std::uint32_t count) {
  if (count > kMaxKept) {
    return Error::invalid(
               fmt::format("a store keeps at most {} restore points, not {}", kMaxKept, count))
        .in(impl_->device.name());
  }
  LCFS_TRY(impl_->room.make_ready(Urgency::kEmergency));
  {
    WriteLock lock(impl_->catalog.mutex());
    LCFS_TRY(impl_->catalog.tree.begin(Urgency::kEmergency));
    impl_->history.set_setting(count);
  }
  LCFS_TRY(drop_history(count));
  return impl_->checkpointer.run(false);
}

// Going back --------------------------------------------------------------------------------------

namespace {

// Everything is durable, and no checkpoint is under way.  That stays so while the structure lock is
// held, except for what layers in use do.
bool at_rest(StoreImpl const& s) LCFS_REQUIRES(structure) {
  return !s.catalog.tree.changed() && s.dirty.empty() && s.checkpointer.idle();
}

// All of the store becomes what kept checkpoint `to` has.  Nobody has a layer, and the store is at
// rest.
Status go_back(StoreImpl& s, std::uint64_t to) LCFS_REQUIRES(structure) {
  LCFS_TRY(s.health.check_writable());
  LCFS_TRY_ASSIGN(auto const target, s.history.find(to));
  auto all = s.history.kept();
  SuperblockInfo const now = s.superblocks.in_force();
  std::string const text = fmt::format("undo to {}", to);
  if (all.back().generation == now.generation) {
    all.back().text = text;
  } else {
    all.push_back(as_kept(now, text));
  }
  // Both trees are on the device, and nothing changes them.
  LCFS_TRY_ASSIGN(
      auto usage,
      find_usage(s.device, now, {target.root, to, target.store_tree_blocks, target.layer_blocks},
                 &all));
  LCFS_TRY(s.catalog.tree.begin());
  s.catalog.tree.return_chunks();
  s.space.set_history(now.generation, usage.history, usage.later);
  s.catalog.reset(target);
  s.removed.set_dying(std::move(usage.current.dying));
  // What was kept then is not what is kept now.
  return s.catalog.tree.end_or_fail(s.history.replace(std::move(usage.kept)));
}

}  // namespace

Status Store::go_back(std::uint64_t generation) {
  for (bool done = false; !done;) {
    LCFS_TRY(impl_->room.make_ready(Urgency::kOrdinary));
    LCFS_TRY(impl_->checkpointer.run(false));  // what is now will be kept as it is
    WriteLock lock(impl_->catalog.mutex());
    LCFS_TRY(impl_->registry.check_unused());
    // Not at rest: what others changed, or hand over now, would be in neither state.
    if (!at_rest(*impl_)) continue;
    LCFS_TRY(lcfs::go_back(*impl_, generation));
    done = true;
  }
  return impl_->checkpointer.run(false);
}

}  // namespace lcfs
