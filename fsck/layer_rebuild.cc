// SPDX-License-Identifier: Apache-2.0
// New trees for damaged layers.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "fsck/layer_repair.h"
#include "fsck/paths.h"

namespace lcfs::fsck {

RecordStream LayerRepair::stream(LayerPlan const& plan) const {
  auto const root = plan.entry == nullptr ? NodePtr{} : plan.entry->info.root;
  return {*survey_.source, root, plan.info.id, plan.salvage.leaves};
}

namespace {

// By inode: a directory that has it, and its name there.
using Names = std::unordered_map<std::uint64_t, std::pair<std::uint64_t, std::string>>;

Names names_in(RecordStream records) {
  Names names;
  while (auto const r = records.next()) {
    if (r->key.kind != kParent) continue;
    if (auto const p = parse_parent(r->key, r->value))
      names.try_emplace(r->key.inode, p->directory, p->name);
  }
  return names;
}

// Empty if it does not lead to the root.
std::string path_in(Names const& names, std::uint64_t root, std::uint64_t inode) {
  if (inode == root) return "/";
  std::string path;
  for (int steps = 0; steps < 4096; ++steps) {
    if (inode == root) return path;
    auto const it = names.find(inode);
    if (it == names.end()) break;
    path.insert(0, it->second.second);
    path.insert(0, 1, '/');
    inode = it->second.first;
  }
  return {};
}

}  // namespace

// A mender after planning.  losses: may be null.
std::unique_ptr<Mender> LayerRepair::mend(LayerPlan& plan, std::vector<std::string>* losses) {
  MendContext context;
  context.seed = survey_.superblock.hash_seed;
  context.total_blocks = survey_.superblock.total_blocks;
  context.root = plan.info.root_inode;
  context.now = now_;
  context.lost_found_inode = [this, &plan] {
    auto& inode = lost_founds_[plan.info.root_inode];
    if (inode == 0) inode = next_inode_++;
    return inode;
  };
  context.condemned = [&plan](std::uint64_t inode) { return plan.condemned.contains(inode); };
  if (losses != nullptr && plan.entry != nullptr)
    context.path = [this, &plan, names = std::optional<Names>()](std::uint64_t inode) mutable {
      auto path = path_of(*survey_.source, plan.entry->info.root, plan.info.root_inode, inode);
      if (!path.empty() && !path.starts_with('?')) return path;
      // A lost branch hides records from lookups that the stream of records has.
      if (!names) names = names_in(stream(plan));
      auto const found = path_in(*names, plan.info.root_inode, inode);
      return found.empty() ? path : found;
    };
  context.lost = [losses](std::string text) {
    if (losses != nullptr) losses->push_back(std::move(text));
  };
  auto mender = std::make_unique<Mender>(std::move(context));
  auto records = stream(plan);
  while (auto const r = records.next()) mender->take(*r);
  next_inode_ = std::max(next_inode_, mender->last_inode() + 1);
  mender->plan(records.complete());
  if (mender->wants_names()) {
    auto again = stream(plan);
    while (auto const r = again.next()) mender->name(*r);
  }
  mender->finish_plan();
  return mender;
}

// All records to write, in key order.
template <class Take>
Status LayerRepair::replay(LayerPlan const& plan, Mender& mender, Take const& take) {
  auto const& put = mender.additions();
  auto next = put.begin();
  auto const give = [&](auto const& it) {
    return take(it->first, std::as_bytes(std::span{it->second}));
  };
  auto records = stream(plan);
  while (auto const r = records.next()) {
    if (options_.check.stopped()) return Error::interrupted();
    for (; next != put.end() && next->first < r->key; ++next) {
      LCFS_TRY(give(next));
    }
    if (next != put.end() && next->first == r->key) continue;  // comes with the next one
    if (auto const value = mender.mend(*r)) {
      LCFS_TRY(take(r->key, *value));
    }
  }
  for (; next != put.end(); ++next) {
    LCFS_TRY(give(next));
  }
  return {};
}

// Whether every extent belongs to the layer or to an ancestor that still has it.  If not, those
// files are condemned.
bool LayerRepair::try_claims(LayerPlan& plan, Mender& mender) {
  auto const id = plan.info.id;
  std::set<std::uint64_t> ancestors;
  for (auto const* p = plan_of(plan.info.parent); p != nullptr; p = plan_of(p->info.parent))
    ancestors.insert(p->info.id);
  BlockMap own;
  struct Need {
    std::uint64_t owner = 0;
    LayerPlan::Kept kept{};
  };
  std::vector<Need> needs;
  bool good = true;
  auto const check = [&](Key const& key, Bytes value) -> Status {
    if (key.kind != kExtent) return {};
    auto const e = parse_extent(key, value, survey_.superblock.total_blocks);
    if (!e) return {};
    auto const bad = bad_blocks_.lower_bound(e->block);
    bool fits = bad == bad_blocks_.end() || *bad >= e->block + e->count;
    if (e->owner == id) {
      fits = fits &&
             (claims_.is_free(e->block, e->count) || claims_.owns(id, e->block, e->count)) &&
             own.claim(e->block, e->count, id);
    } else if (auto const* owner = ancestors.contains(e->owner) ? plan_of(e->owner) : nullptr;
               owner == nullptr) {
      fits = false;
    } else if (fits && !claims_.owns(e->owner, e->block, e->count)) {
      fits = owner->fate == LayerPlan::kMend;
      Need need{e->owner, {}};
      for (std::uint32_t b = 0; fits && b < e->count; ++b) {
        if (claims_.owns(e->owner, e->block + b, 1)) continue;
        fits = claims_.is_free(e->block + b, 1);
        if (!need.kept.sums.empty() && need.kept.block + need.kept.sums.size() != e->block + b) {
          needs.push_back(need);
          need.kept.sums.clear();
        }
        if (need.kept.sums.empty()) need.kept.block = e->block + b;
        need.kept.sums.push_back(e->checksums[b]);
      }
      if (fits && !need.kept.sums.empty()) needs.push_back(std::move(need));
    }
    if (!fits) {
      plan.condemned.insert(key.inode);
      good = false;
    }
    return {};
  };
  if (!replay(plan, mender, check)) return true;  // stopped: the result is not used
  if (!good) return false;
  for (auto const& [start, stretch] : own.stretches())
    claims_.claim_rest(start, stretch.end - start, id);
  for (auto& n : needs) {
    // Two files may map the same inherited blocks: the first has claimed them.
    if (!claims_.claim(n.kept.block, n.kept.sums.size(), n.owner)) continue;
    auto& owner = *plan_of(n.owner);
    if (owner.keeper == 0) owner.keeper = next_inode_++;
    owner.kept.push_back(std::move(n.kept));
  }
  return true;
}

void LayerRepair::plan_mend(LayerPlan& plan) {
  auto const* parent = plan_of(plan.info.parent);
  if (plan.entry != nullptr) {
    auto const facts = survey_.layers.find(plan.info.id);
    plan.salvage =
        salvage(device_, *survey_.source, survey_.superblock, *plan.entry,
                survey_.scan->runs_of(*plan.entry),
                facts == survey_.layers.end() ? std::span<Piece const>{}
                                              : std::span<Piece const>{facts->second.skeleton},
                parent != nullptr && parent->entry != nullptr ? &parent->entry->info : nullptr,
                parent != nullptr ? &parent->salvage : nullptr);
  }
  for (;;) {
    std::vector<std::string> losses;
    auto const mender = mend(plan, &losses);
    if (!try_claims(plan, *mender)) continue;  // again, without the condemned files
    plan.losses.insert(losses.begin(), losses.end());
    if (plan.salvage.doubtful)
      plan.losses.insert(
          "files inherited from the layers below in the range of a lost branch: this layer's "
          "changes to them are unknown");
    // Inodes that were lost together with all their names.
    auto const known = mender->inodes_accounted_for();
    if (plan.entry != nullptr && !plan.salvage.complete && known < plan.entry->info.inodes)
      plan.losses.insert(
          fmt::format("{} more inodes without a name", plan.entry->info.inodes - known));
    return ask_for_tree(plan, mender->anything_left());
  }
}

Status LayerRepair::build_tree(LayerPlan& plan, NodeWriter& out, NodeSource& fresh) {
  auto const mender = mend(plan, nullptr);
  if (plan.keeper != 0) {
    std::vector<ExtentInfo> extents;
    for (auto const& k : plan.kept)
      extents.push_back({k.block, plan.info.id, static_cast<std::uint32_t>(k.sums.size()), k.sums});
    mender->add_keeper(plan.keeper, extents);
  }
  auto const* parent = plan_of(plan.info.parent);
  TreeOutline const* shared = nullptr;
  if (parent != nullptr) {
    auto const& root = parent->info.root;
    if (outline_root_ != root.block.get()) {
      outline_root_ = 0;
      if (auto tree = outline(fresh, root)) {
        outline_ = *std::move(tree);
        outline_root_ = root.block.get();
      }
    }
    if (outline_root_ != 0) shared = &outline_;
  }
  TreeBuilder builder(out, plan.info.id, fresh, shared);
  std::uint64_t data = 0;
  plan.info.inodes = 0;
  std::vector<Piece> own;
  LCFS_TRY(replay(plan, *mender, [&](Key const& key, Bytes value) -> Status {
    if (key.kind == kInode) ++plan.info.inodes;
    if (key.kind == kExtent) {
      if (auto const e = parse_extent(key, value, survey_.superblock.total_blocks)) {
        data += e->count;
        if (e->owner == plan.info.id) own.push_back({e->block, e->count, e->owner});
      }
    }
    return builder.add(key, value);
  }));
  LCFS_TRY_ASSIGN(auto const built, builder.finish());
  for (auto const block : built.written) own.push_back({block, kNodeBlocks, plan.info.id});
  plan.info.root = built.root;
  plan.info.used_blocks = data + built.nodes * kNodeBlocks;
  plan.own = std::move(own);
  return {};
}

Status LayerRepair::build(NodeWriter& out, NodeSource& fresh) {
  for (auto& [id, plan] : plans_) {
    auto const* parent = plan_of(plan.info.parent);
    switch (plan.fate) {
      case LayerPlan::kKeep: {
        auto const& facts = survey_.layers.at(id);
        plan.info.inodes = facts.result.inodes;
        plan.info.used_blocks = facts.result.used_blocks;
        for (auto const& p : facts.reached)
          if (p.owner == id) plan.own.push_back(p);
        break;
      }
      case LayerPlan::kSame:
        plan.info.root = parent->info.root;
        plan.info.inodes = parent->info.inodes;
        plan.info.used_blocks = parent->info.used_blocks;
        break;
      case LayerPlan::kMend: {
        LCFS_TRY(build_tree(plan, out, fresh));
        break;
      }
      case LayerPlan::kLeave:
        for (auto const& r : survey_.scan->runs_of(*plan.entry))
          plan.own.push_back({r.start, r.count, id});
        break;
      case LayerPlan::kRemove: break;
    }
    if (plan.keep_skeleton && plan.fate != LayerPlan::kLeave)
      for (auto const& p : survey_.layers.at(id).skeleton) plan.own.push_back(p);
  }
  return {};
}

}  // namespace lcfs::fsck
