// SPDX-License-Identifier: Apache-2.0
// Decides the fate of each layer.  layer_rebuild.cc makes the new trees.
#include "fsck/layer_repair.h"

#include <fmt/format.h>

#include <algorithm>

namespace lcfs::fsck {

LayerRepair::LayerRepair(Device& device, Survey const& survey, RepairOptions const& options)
    : device_(device), survey_(survey), options_(options) {
  auto const& sb = survey.superblock;
  next_inode_ = sb.next_inode;
  next_id_ = sb.next_id;
  constexpr std::int64_t kSecond = 1'000'000'000;
  auto const ns = sb.written_ns;
  now_ = {ns / kSecond - (ns % kSecond < 0 ? 1 : 0),
          static_cast<std::uint32_t>((ns % kSecond + kSecond) % kSecond)};
}

bool LayerRepair::ask(Proposal const& proposal) {
  bool const yes = options_.ask && options_.ask(proposal);
  if (!yes) declined_ = true;
  return yes;
}

LayerPlan* LayerRepair::plan_of(std::uint64_t id) {
  auto const it = plans_.find(id);
  return it == plans_.end() ? nullptr : &it->second;
}

void LayerRepair::collect() {
  for (auto const& entry : survey_.scan->layers()) {
    next_id_ = std::max({next_id_, entry.info.id + 1, entry.info.serve_id + 1});
    if (entry.info.state == LayerState::kDying) continue;  // its runs become free
    auto& plan = plans_[entry.info.id];
    plan.info = entry.info;
    plan.entry = &entry;
  }
  for (auto const& [id, facts] : survey_.layers)
    next_inode_ = std::max(next_inode_, facts.result.last_inode + 1);
}

// Other layers whose blocks the tree uses.
std::set<std::uint64_t> LayerRepair::owners_of(LayerPlan const& plan) const {
  std::set<std::uint64_t> owners;
  auto const it = survey_.layers.find(plan.info.id);
  if (it == survey_.layers.end()) return owners;
  for (auto const& p : it->second.reached)
    if (p.owner != plan.info.id && p.owner != 0) owners.insert(p.owner);
  return owners;
}

bool LayerRepair::stands_on(std::uint64_t parent, std::set<std::uint64_t> const& owners) {
  std::size_t found = 0;
  for (auto const* p = plan_of(parent); p != nullptr;
       p = p->info.parent < p->info.id ? plan_of(p->info.parent) : nullptr)
    found += owners.contains(p->info.id);
  return found == owners.size();
}

// Ids grow from parents to children: a child is always created after its parent.
void LayerRepair::resolve_parent(LayerPlan& plan) {
  auto& info = plan.info;
  auto owners = owners_of(plan);
  auto const* parent = plan_of(info.parent);
  bool const fits = info.parent == 0 ? owners.empty()
                                     : parent != nullptr && info.parent < info.id &&
                                           stands_on(info.parent, owners);
  if (fits) return;
  std::erase_if(owners, [&](std::uint64_t o) { return o >= info.id; });
  bool const exists = info.parent != 0 && parent != nullptr && info.parent < info.id;
  auto const newest = owners.empty() ? 0 : *owners.rbegin();
  // An existing parent stays unless another one explains more of what the tree inherits.
  if (exists && (newest == 0 || !stands_on(newest, owners))) return;
  auto const wanted =
      !exists && info.parent != 0 && info.parent < info.id && owners.contains(info.parent)
          ? info.parent
          : newest;
  std::set<std::uint64_t> todo;
  if (wanted != 0 && plan_of(wanted) == nullptr)
    add_placeholder(wanted, owners, info.root_inode, todo);
  if (info.parent == wanted) return;
  graph_.push_back(
      fmt::format("layer {}: its parent is layer {}, not {}", info.name, wanted, info.parent));
  info.parent = wanted;
}

// Plans a layer whose record is lost, because others are based on it.
void LayerRepair::add_placeholder(std::uint64_t id, std::set<std::uint64_t> owners,
                                  std::uint64_t root_inode, std::set<std::uint64_t>& todo) {
  owners.erase(owners.lower_bound(id), owners.end());
  auto& plan = plans_[id];
  auto& info = plan.info;
  info.id = id;
  info.state = LayerState::kFrozen;
  info.name = fmt::format("lost-{}", id);
  info.root_inode = root_inode;
  info.serve_id = next_id_++;
  info.created_ns = info.frozen_ns = survey_.superblock.written_ns;
  plan.fate = LayerPlan::kMend;
  plan.lost = true;
  graph_.push_back(fmt::format(
      "layer {}: its record is lost, but other layers are based on it; it is restored as {}", id,
      info.name));
  if (owners.empty()) return;
  info.parent = *owners.rbegin();
  if (plan_of(info.parent) == nullptr && todo.insert(info.parent).second)
    add_placeholder(info.parent, owners, root_inode, todo);
}

void LayerRepair::resolve_parents() {
  std::vector<std::uint64_t> ids;
  for (auto const& [id, plan] : plans_) ids.push_back(id);
  for (auto const id : ids) resolve_parent(plans_.at(id));
  for (auto& [id, plan] : plans_) {
    auto* parent = plan_of(plan.info.parent);
    if (parent == nullptr || parent->info.state == LayerState::kFrozen) continue;
    parent->info.state = LayerState::kFrozen;
    parent->info.frozen_ns = survey_.superblock.written_ns;
    parent->info.quota_blocks = 0;
    graph_.push_back(fmt::format("layer {}: made read-only, because layer {} is based on it",
                                 parent->info.name, plan.info.name));
  }
  std::set<std::string> names;
  std::set<std::uint64_t> serve_ids;
  for (auto& [id, plan] : plans_) {
    auto& info = plan.info;
    auto const name = info.name;
    for (int n = 1; !names.insert(info.name).second; ++n)
      info.name = fmt::format("{}.{}", name.substr(0, kMaxLayerName - 8), n);
    if (info.name != name)
      graph_.push_back(fmt::format("layer {}: renamed to {}, because another layer has its name",
                                   id, info.name));
    if (!serve_ids.insert(info.serve_id).second) {
      info.serve_id = next_id_++;
      serve_ids.insert(info.serve_id);
      graph_.push_back(
          fmt::format("layer {}: serve_id changed to {}, because another layer has the same",
                      info.name, info.serve_id));
    }
  }
}

void LayerRepair::ask_for_files() {
  for (auto& [id, plan] : plans_) {
    auto const facts = survey_.layers.find(id);
    if (facts == survey_.layers.end()) continue;
    auto const of_skeleton = [](BadBlock const& b) { return b.inode == kSkeletonUse; };
    auto const& bad = facts->second.bad;
    if (std::any_of(bad.begin(), bad.end(), of_skeleton)) ask_for_skeleton(plan);
    if (std::all_of(bad.begin(), bad.end(), of_skeleton)) continue;
    Proposal p;
    p.step = Step::kFiles;
    p.layer = id;
    p.layer_name = plan.info.name;
    p.text = "remove the files with unreadable data, in this layer and its children";
    std::set<std::string> paths;
    for (auto const& f : survey_.report.findings)
      if (f.layer == id && (f.code == Code::kData || f.code == Code::kIo) && f.inode != 0)
        paths.insert(f.path.empty() ? fmt::format("inode {}", f.inode) : f.path);
    p.details.assign(paths.begin(), paths.end());
    if (!ask(p)) continue;
    bad_layers_.insert(id);
    for (auto const& b : bad)
      if (!of_skeleton(b)) bad_blocks_.insert(b.block);
  }
}

void LayerRepair::ask_for_skeleton(LayerPlan& plan) {
  Proposal p;
  p.step = Step::kSkeleton;
  p.layer = plan.info.id;
  p.layer_name = plan.info.name;
  p.text =
      "remove the record of its original tar, which cannot be read; no file is lost, but an "
      "export makes a new tar";
  plan.drop_skeleton = ask(p);
  mended_ = mended_ || plan.drop_skeleton;
}

// Only a complete layer matches its skeleton.
void LayerRepair::settle_skeleton(LayerPlan& plan) {
  auto const facts = survey_.layers.find(plan.info.id);
  plan.keep_skeleton = facts != survey_.layers.end() && !facts->second.skeleton.empty() &&
                       plan.fate != LayerPlan::kRemove && !plan.lost && !plan.drop_skeleton &&
                       plan.info.state == LayerState::kFrozen &&
                       survey_.scan->skeleton_sound(plan.info.id);
  plan.info.skeleton_blocks = 0;
  if (!plan.keep_skeleton) return;
  for (auto const& s : facts->second.skeleton) {
    bool const free = plan.fate == LayerPlan::kLeave || claims_.claim(s.start, s.count, s.owner);
    plan.keep_skeleton = plan.keep_skeleton && free;
    plan.info.skeleton_blocks += s.count;
  }
  if (!plan.keep_skeleton) plan.info.skeleton_blocks = 0;
}

bool LayerRepair::claim_kept(LayerPlan const& plan) {
  auto const& reached = survey_.layers.at(plan.info.id).reached;
  bool good = true;
  for (auto const& p : reached) {
    if (p.owner == plan.info.id)
      good = claims_.claim(p.start, p.count, p.owner) && good;
    else
      good = good && claims_.owns(p.owner, p.start, p.count);
  }
  return good;
}

void LayerRepair::choose_fates() {
  for (auto& [id, plan] : plans_) {
    auto const* parent = plan_of(plan.info.parent);
    if (plan.entry == nullptr) continue;  // a placeholder
    auto const& result = survey_.layers.at(id).result;
    bool const above_mended = parent != nullptr && parent->fate == LayerPlan::kMend;
    bool const as_parent = parent != nullptr && parent->entry != nullptr &&
                           parent->entry->info.root == plan.entry->info.root &&
                           parent->info.root_inode == plan.info.root_inode;
    if (as_parent) {
      plan.fate = LayerPlan::kSame;
      if (parent->fate == LayerPlan::kMend) mended_ = true;
      continue;
    }
    auto const* base = parent;  // whose tree the parent has
    while (base != nullptr && base->fate == LayerPlan::kSame) base = plan_of(base->info.parent);
    bool const on_mended = above_mended || (base != nullptr && base->fate == LayerPlan::kMend);
    if (result.tree_sound && result.complete && !on_mended && !bad_layers_.contains(id) &&
        plan.info.parent == plan.entry->info.parent && claim_kept(plan))
      continue;
    plan.fate = LayerPlan::kMend;
  }
}

void LayerRepair::ask_for_tree(LayerPlan& plan, bool anything_left) {
  auto const& info = plan.info;
  auto const* parent = plan_of(info.parent);
  bool const has_children = std::any_of(
      plans_.begin(), plans_.end(), [&](auto const& p) { return p.second.info.parent == info.id; });
  Proposal p;
  p.layer = info.id;
  p.layer_name = info.name;
  for (auto const& l : plan.losses)
    if (parent == nullptr || !parent->losses.contains(l)) p.details.push_back(l);
  auto const said = p.details.size();
  plan.lost = plan.lost || !plan.losses.empty();
  if (!anything_left && !has_children && plan.entry != nullptr) {
    p.step = Step::kRemove;
    p.text = "remove the layer: nothing of its tree is left";
    p.details.clear();
    plan.fate = ask(p) ? LayerPlan::kRemove : LayerPlan::kLeave;
    plan.lost = plan.fate == LayerPlan::kRemove;
    return;
  }
  if (plan.entry == nullptr) return;  // was proposed before
  bool const sound = survey_.layers.at(info.id).result.tree_sound;
  if (sound && said == 0) return;  // it only follows its parent
  p.step = Step::kTree;
  p.text = plan.losses.size() > said && said == 0
               ? "repair its tree; it loses what its parent loses"
               : "repair its tree";
  if (p.details.size() > options_.max_details) {
    p.details.resize(options_.max_details);
    p.details.push_back(fmt::format("and {} more", said - options_.max_details));
  }
  if (ask(p)) return;
  plan.fate = LayerPlan::kLeave;
  plan.lost = false;
}

void LayerRepair::decide() {
  collect();
  resolve_parents();
  if (!graph_.empty()) {
    Proposal p;
    p.step = Step::kGraph;
    p.text = "correct the links between layers";
    p.details = graph_;
    // Without it no layer can be repaired: all stay as they are.
    if (!ask(p)) {
      graph_.clear();
      for (auto it = plans_.begin(); it != plans_.end();) {
        if (it->second.entry == nullptr) {
          it = plans_.erase(it);
          continue;
        }
        it->second.info = it->second.entry->info;
        it->second.fate = LayerPlan::kLeave;
        settle_skeleton(it->second);
        ++it;
      }
      return;
    }
  }
  ask_for_files();
  choose_fates();
  for (auto& [id, plan] : plans_) {
    auto const* parent = plan_of(plan.info.parent);
    if (parent != nullptr &&
        (parent->fate == LayerPlan::kLeave || parent->fate == LayerPlan::kRemove) &&
        (plan.fate == LayerPlan::kMend || plan.fate == LayerPlan::kSame))
      plan.fate = LayerPlan::kLeave;
    if (plan.fate == LayerPlan::kMend) plan_mend(plan);
    if (plan.fate == LayerPlan::kMend || plan.fate == LayerPlan::kRemove) mended_ = true;
    if (plan.fate == LayerPlan::kLeave)
      for (auto const& r : survey_.scan->runs_of(*plan.entry))
        claims_.claim_rest(r.start, r.count, id);
    if (parent != nullptr && parent->lost) plan.lost = true;
    settle_skeleton(plan);
    if (!plan.lost) continue;
    plan.info.has_digests = false;
    plan.info.diff_id = plan.info.chain_id = Digest{};
  }
}

void LayerRepair::mark_used(BlockMap& used) const {
  for (auto const& [id, facts] : survey_.layers)
    for (auto const* pieces : {&facts.reached, &facts.skeleton})
      for (auto const& p : *pieces) used.claim_rest(p.start, p.count, 1);
  for (auto const& [start, stretch] : claims_.stretches())
    used.claim_rest(start, stretch.end - start, 1);
  for (auto const& [id, plan] : plans_)
    for (auto const node : plan.salvage.nodes) used.claim_rest(node, kNodeBlocks, 1);
}

}  // namespace lcfs::fsck
