// SPDX-License-Identifier: Apache-2.0
// Checkpoints that are kept: which, for how long, and going back (doc/design.md, "History").
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "engine/kept_tree.h"
#include "engine/store_impl.h"

namespace lcfs {

namespace {
constexpr std::uint32_t kDefaultKeep = 8;
constexpr std::uint64_t kHistoryShare =
    8;  // history may be this part of the store, and more where as much is free
}  // namespace

std::uint32_t StoreImpl::keep_limit() const {
  if (options.keep) return std::min(*options.keep, kMaxKept);
  auto const said = keep_setting.load(std::memory_order_relaxed);
  return said == 0 ? kDefaultKeep : said - 1;
}

Status StoreImpl::keep(std::string_view what) {
  auto const limit = keep_limit();
  if (limit == 0 || space.low()) return give_up(0);
  KeptCheckpoint k;
  {
    // Under the lock that the end of a checkpoint takes before it frees anything.
    Lock lock(super_mu);
    if (!kept.empty() && kept.back().generation == super.generation) {
      k = kept.back();  // another change that came after the same checkpoint
    } else {
      k = {super.generation,   super.store_root,  super.written_ns,  super.store_tree_blocks,
           super.layer_blocks, super.layer_count, super.image_count, {}};
      space.keep(super.generation);
      kept.push_back(k);
    }
  }
  LCFS_TRY(say_of_newest(k.text.empty() ? "" : ", ", what));
  return give_up(limit);
}

Status StoreImpl::keep_with(std::uint64_t joins, std::string_view more, std::string_view what) {
  if (joins == 0 || kept.empty() || kept.back().generation != joins) return keep(what);
  return say_of_newest(" ", more);
}

Status StoreImpl::say_of_newest(std::string_view between, std::string_view what) {
  auto& k = kept.back();
  if (k.text.size() + between.size() + what.size() <= kMaxKeptText || k.text.empty()) {
    k.text += between;
    k.text += what;
    k.text.resize(std::min<std::size_t>(k.text.size(), kMaxKeptText));
  }
  return tree.put({0, kCheckpoint, k.generation}, as_bytes(encode_checkpoint(k)));
}

Status StoreImpl::give_up(std::size_t left) {
  std::uint64_t building = 0;
  {
    Lock lock(dirty_mu);
    building = generation;
  }
  return give_up(left, building);
}

Status StoreImpl::give_up(std::size_t left, std::uint64_t building) {
  while (kept.size() > left) {
    std::uint64_t const oldest = kept.front().generation;
    LCFS_TRY(tree.erase({0, kCheckpoint, oldest}));
    kept.erase(kept.begin());
    space.drop(oldest, kept.empty() ? 0 : kept.front().generation, building);
  }
  return {};
}

Status StoreImpl::bound_history(std::uint64_t building) {
  for (auto const& k : lost) LCFS_TRY(tree.erase({0, kCheckpoint, k.generation}));
  lost.clear();
  if (kept.empty()) return {};
  if (space.low()) return give_up(0, building);
  for (auto c = space.counts();
       !kept.empty() && c.history > std::max(space.total() / kHistoryShare, c.free);
       c = space.counts()) {
    LCFS_TRY(give_up(kept.size() - 1, building));
  }
  return {};
}

Result<KeptCheckpoint> StoreImpl::kept_checkpoint(std::uint64_t wanted) const {
  for (auto const& k : kept) {
    if (k.generation == wanted) return k;
  }
  return Error{Errc::kNotFound,
               fmt::format("checkpoint {} is not kept; lcfs log lists those that are", wanted),
               ENOENT, device.name(), kNoOffset};
}

// ---------------------------------------------------------------------------------------------------------------
// What the store tells

std::vector<HistoryEntry> Store::history() const {
  ReadLock lock(impl_->mu);
  std::vector<HistoryEntry> out;
  for (auto const& k : impl_->kept) out.push_back({k, impl_->space.history_of(k.generation)});
  return out;
}

std::uint32_t Store::keep() const { return impl_->keep_limit(); }

Result<std::vector<LayerInfo>> layers_in(Tree const& tree, std::uint64_t total) {
  std::vector<LayerInfo> out;
  Tree::Cursor c(tree);
  LCFS_TRY(c.seek({1, kLayer, 0}));
  while (c.valid()) {
    Key const key = c.key();
    if (key.kind == kLayer) {
      LCFS_TRY_ASSIGN(auto info, parse_layer(key, c.value(), total));
      if (info.state != LayerState::kDying) out.push_back(std::move(info));
    }
    LCFS_TRY(c.seek({key.kind < kLayer ? key.inode : key.inode + 1, kLayer, 0}));
  }
  return out;
}

Result<KeptContents> Store::kept_contents(std::uint64_t generation) const {
  ReadLock lock(impl_->mu);
  LCFS_TRY_ASSIGN(auto const k, impl_->kept_checkpoint(generation));
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

// ---------------------------------------------------------------------------------------------------------------
// Keeping less

Status Store::drop_history(std::size_t left) {
  LCFS_TRY(impl_->make_ready(Urgency::kEmergency));
  {
    WriteLock lock(impl_->mu);
    if (impl_->kept.size() <= left) return {};
    LCFS_TRY(impl_->begin_structure_change(Urgency::kEmergency));
    std::uint64_t const before = impl_->tree.changes();
    LCFS_TRY(impl_->end_structure_change(impl_->give_up(left), before));
  }
  return impl_->settle();
}

Status Store::set_keep(std::uint32_t count) {
  if (count > kMaxKept) {
    return Error{Errc::kInvalid,
                 fmt::format("a store keeps at most {} checkpoints, not {}", kMaxKept, count),
                 EINVAL, impl_->device.name(), kNoOffset};
  }
  LCFS_TRY(impl_->make_ready(Urgency::kEmergency));
  {
    WriteLock lock(impl_->mu);
    LCFS_TRY(impl_->begin_structure_change(Urgency::kEmergency));
    impl_->keep_setting = count + 1;
  }
  LCFS_TRY(drop_history(count));
  return impl_->checkpoint(false);
}

// ---------------------------------------------------------------------------------------------------------------
// Going back

Status StoreImpl::check_unused() {
  Lock table(layers_mu);
  for (auto const& [id, weak] : layers) {
    if (!weak.expired()) {
      return Error{
          Errc::kBusy,
          "the store is in use: a store can only go back as a whole when nobody uses its layers",
          EBUSY, device.name(), kNoOffset};
    }
  }
  layers.clear();
  return {};
}

bool StoreImpl::at_rest() {
  {
    Lock lock(dirty_mu);
    if (structure_dirty || !dirty_layers.empty()) return false;
  }
  Lock lock(cp_mu);
  return !cp_running;
}

Status StoreImpl::go_back(std::uint64_t to) {
  LCFS_TRY(check_writable());
  LCFS_TRY_ASSIGN(auto const target, kept_checkpoint(to));
  auto all = kept;
  SuperblockInfo now;
  {
    Lock lock(super_mu);
    now = super;
  }
  std::string const text = fmt::format("undo to {}", to);
  if (all.back().generation == now.generation) {
    all.back().text = text;
  } else {
    all.push_back({now.generation, now.store_root, now.written_ns, now.store_tree_blocks,
                   now.layer_blocks, now.layer_count, now.image_count, text});
  }
  // Both trees are on the device, and nothing changes them.
  LCFS_TRY_ASSIGN(
      auto usage,
      find_usage(device, now, {target.root, to, target.store_tree_blocks, target.layer_blocks},
                 &all));
  LCFS_TRY(begin_structure_change());
  store_space.return_chunks();
  space.set_history(now.generation, usage.history, usage.later);
  kept = std::move(usage.kept);
  lost.clear();
  tree.reset(target.root);
  store_tree_blocks = target.store_tree_blocks;
  space.set_store_tree(store_tree_blocks);
  layer_blocks = target.layer_blocks;
  layer_count = target.layer_count;
  image_count = target.image_count;
  dying = std::move(usage.current.dying);
  auto put = [&]() LCFS_REQUIRES(mu) -> Status {
    // What was kept then is not what is kept now.
    LCFS_TRY(tree.erase_range({0, kCheckpoint, 0}, {0, kCheckpoint, ~0ull}, nullptr));
    for (auto const& k : kept)
      LCFS_TRY(tree.put({0, kCheckpoint, k.generation}, as_bytes(encode_checkpoint(k))));
    return give_up(std::max<std::size_t>(keep_limit(), 1));
  };
  auto done = put();
  if (done) done = end_structure_change(std::move(done), tree.changes());
  return done ? std::move(done) : fail(std::move(done).error());
}

Status Store::go_back(std::uint64_t generation) {
  for (bool done = false; !done;) {
    LCFS_TRY(impl_->make_ready(Urgency::kOrdinary));
    LCFS_TRY(impl_->checkpoint(false));  // what is now will be kept as it is
    WriteLock lock(impl_->mu);
    LCFS_TRY(impl_->check_unused());
    if (!impl_->at_rest())
      continue;  // what others changed, or hand over now, would be neither here nor there
    LCFS_TRY(impl_->go_back(generation));
    done = true;
  }
  return impl_->checkpoint(false);
}

}  // namespace lcfs
