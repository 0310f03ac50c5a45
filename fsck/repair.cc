// SPDX-License-Identifier: Apache-2.0
#include "fsck/repair.h"

#include <fmt/format.h>

#include <algorithm>

#include "fsck/layer_repair.h"
#include "fsck/store_rebuild.h"
#include "fsck/survey.h"
#include "fsck/tree_search.h"

namespace lcfs::fsck {

std::string_view step_name(Step step) {
  switch (step) {
    case Step::kSlot: return "slot";
    case Step::kOlder: return "older";
    case Step::kFound: return "found";
    case Step::kStore: return "store";
    case Step::kGraph: return "graph";
    case Step::kDerived: return "derived";
    case Step::kTree: return "tree";
    case Step::kRemove: return "remove";
    case Step::kImage: return "image";
    case Step::kFiles: return "files";
    case Step::kSkeleton: return "skeleton";
  }
  return "unknown";
}

namespace {

bool contains_any(std::set<Code> const& codes, std::initializer_list<Code> wanted) {
  return std::any_of(wanted.begin(), wanted.end(), [&codes](Code c) { return codes.contains(c); });
}

class Run {
 public:
  Run(Device& device, RepairOptions const& options) : device_(device), options_(options) {}

  Result<Repaired> operator()() {
    auto how = options_.check;
    how.collect = true;
    LCFS_TRY_ASSIGN(survey_, inspect(device_, how, {}));
    done_.before = survey_.report;
    if (options_.found) options_.found(survey_.report);
    if (survey_.report.clean() && (!how.search || survey_.superblock.read_only_features()))
      return std::move(done_);
    LCFS_TRY_ASSIGN(bool const chosen, choose_state(how));
    if (!chosen || (survey_.report.clean() && !found_ && !older_)) return std::move(done_);
    if (options_.check.stopped()) return Error::interrupted();
    bool const slot = slot_is_wrong();
    bool const store_asked = store_tree_damaged() && !found_;
    if (!ask_for_slot(slot) || (store_asked && !ask_for_store_tree())) return std::move(done_);
    LayerRepair layers(device_, survey_, options_);
    layers.decide();
    StoreRebuild store(survey_, layers, options_);
    store.decide();
    if (options_.check.stopped()) return Error::interrupted();
    done_.declined = done_.declined || layers.declined() || store.declined();
    bool const wanted = layers.wants_new_trees() || layers.graph_changed() || store.changed();
    if (found_ || store_asked || wanted || ask_for_derived()) {
      LCFS_TRY(rebuild(layers, store));
    } else if (slot || older_) {
      LCFS_TRY(publish(survey_.superblock, false));
    }
    return std::move(done_);
  }

 private:
  bool ask(Proposal const& proposal) {
    bool const yes = options_.ask && options_.ask(proposal);
    if (!yes) done_.declined = true;
    return yes;
  }

  // Chooses the newest state, or an older one if that is better.  False: the user declined the only
  // one.
  Result<bool> choose_state(Options const& how) {
    if (survey_.report.in_force) {
      if (survey_.superblock.read_only_features())
        return Error::unsupported(
                   "the store uses features that this lcfs cannot write; upgrade lcfs")
            .in(device_.name());
      base_ = *survey_.report.in_force;
      LCFS_TRY(go_to_other_slot(how));
      if (survey_.scan->complete() && !how.search) return true;
    }
    auto const& slots = survey_.report.slots;
    if (how.search && std::none_of(slots.begin(), slots.end(), cut_short)) {
      LCFS_TRY_ASSIGN(bool const went, go_to_found(how));
      if (went || !survey_.report.in_force) return went;
      if (survey_.scan->complete()) return true;
    }
    if (!survey_.report.in_force) return Error::corrupt(no_superblock()).in(device_.name()).at(0);
    if (survey_.scan->layers().empty() && survey_.scan->images() == 0 &&
        survey_.superblock.layer_count + survey_.superblock.image_count != 0)
      return Error::corrupt(
                 how.search ? "the store tree cannot be read, so there is nothing to repair from"
                            : "the store tree cannot be read, so there is nothing to repair from; "
                              "--search looks for an older one")
          .in(device_.name())
          .at(survey_.superblock.store_root.block.get() * kBlockSize);
    return true;
  }

  [[nodiscard]] std::string no_superblock() const {
    for (auto const& s : survey_.report.slots)
      if (cut_short(s))
        return s.problem +
               "; there is nothing to repair from until its size is restored, with zeroes "
               "(truncate -s)";
    return "neither superblock can be read, so there is nothing to repair from; --search looks for "
           "the store tree";
  }

  // Uses a tree that no superblock points to.  False: the user declined it.
  Result<bool> go_to_found(Options const& how) {
    bool const whole = survey_.report.in_force && survey_.scan->complete();
    auto found = search_tree(device_, how, survey_.slots,
                             whole ? last_without_superblock(survey_.superblock.generation) : 0);
    if (!found) {
      if (found.error().code == Errc::kInterrupted || !survey_.report.in_force)
        return std::move(found).error();
      return false;  // the rest of the newest state may still be useful
    }
    Proposal p;
    p.step = Step::kFound;
    p.text = whole ? fmt::format(
                         "the superblocks lead to generation {}, {}, but a newer whole store "
                         "tree was found, {}: use it",
                         survey_.superblock.generation, time_text(survey_.superblock.written_ns),
                         found->text())
                   : fmt::format(
                         "the superblocks lead to no readable store tree, but a whole one was "
                         "found, {}: use it, and lose what changed since",
                         found->text());
    if (!ask(p)) return false;
    LCFS_TRY_ASSIGN(survey_, inspect(device_, how, {std::nullopt, &found->superblock}));
    newest_ = found->newest;
    found_ = true;
    return true;
  }

  Status go_to_other_slot(Options const& how) {
    auto const other = 1 - base_;
    if (survey_.scan->complete() || !survey_.slots[other]) return {};
    LCFS_TRY_ASSIGN(auto older, inspect(device_, how, {other, nullptr}));
    if (!older.scan->complete()) return {};
    Proposal p;
    p.step = Step::kOlder;
    p.text = fmt::format(
        "the store tree of generation {}, {}, is damaged; that of generation {}, {}, is whole: "
        "use that one, and lose what changed since",
        survey_.superblock.generation, time_text(survey_.superblock.written_ns),
        older.superblock.generation, time_text(older.superblock.written_ns));
    if (!ask(p)) return {};
    survey_ = std::move(older);
    base_ = other;
    older_ = true;
    return {};
  }

  // True if the other slot differs from what a checkpoint would have left there.
  [[nodiscard]] bool slot_is_wrong() const {
    auto const& other = survey_.slots[1 - base_];
    if (older_ || found_) return false;  // it is rewritten anyway
    if (!other) {
      auto const state = survey_.report.slots[1 - base_].state;
      return state == SlotState::kDamaged ||
             (state == SlotState::kEmpty && survey_.superblock.generation > 1);
    }
    return other->uuid != survey_.superblock.uuid ||
           other->generation == survey_.superblock.generation;
  }

  bool ask_for_slot(bool wrong) {
    if (!wrong) return true;
    Proposal p;
    p.step = Step::kSlot;
    p.safe = true;
    p.text = fmt::format("superblock slot {} is damaged or belongs to another store: rewrite it",
                         1 - base_);
    return ask(p);
  }

  [[nodiscard]] bool store_tree_damaged() const {
    return contains_any(survey_.store_errors, {Code::kNode, Code::kIo, Code::kRecord, Code::kBlob,
                                               Code::kGraph, Code::kOwner});
  }

  // Required for all other repairs: a new store tree has only what is left of the old one.
  bool ask_for_store_tree() {
    Proposal p;
    p.step = Step::kStore;
    p.text = "rebuild the store tree without its damaged parts";
    p.details = survey_.store_lines;
    for (auto const& r : survey_.scan->runs())
      if (survey_.scan->layer(r.layer) == nullptr &&
          (p.details.empty() ||
           !p.details.back().ends_with(fmt::format("layer {} is lost", r.layer))))
        p.details.push_back(fmt::format("the record of layer {} is lost", r.layer));
    if (p.details.size() > options_.max_details) p.details.resize(options_.max_details);
    return ask(p);
  }

  // Proposes the repairs that a new store tree brings in any case.
  bool ask_for_derived() {
    bool derived =
        contains_any(survey_.store_errors, {Code::kCounter, Code::kRun, Code::kSpace, Code::kName,
                                            Code::kDigest, Code::kHash, Code::kHistory});
    for (auto const& [id, facts] : survey_.layers) derived = derived || !facts.result.derived_sound;
    if (!derived) return false;
    Proposal p;
    p.step = Step::kDerived;
    p.safe = true;
    p.text = "rebuild runs, counters, names and digests";
    if (auto const bad = survey_.scan->checkpoints().size() - survey_.kept.size(); bad > 0)
      p.text += fmt::format("; drop {} unusable restore point{} of {}", bad, bad == 1 ? "" : "s",
                            survey_.scan->checkpoints().size());
    return ask(p);
  }

  Status rebuild(LayerRepair& layers, StoreRebuild& store) {
    auto const& sb = survey_.superblock;
    BlockMap used;
    layers.mark_used(used);
    mark_slot(survey_.scan.get(), used);
    for (auto const& k : survey_.kept)
      for (auto const& p : k.blocks) used.claim_rest(p.start, p.count, 1);
    for (std::uint32_t const slot : {0u, 1u}) {
      auto const& other = survey_.slots[slot];
      if (!other || (slot == base_ && !found_)) continue;
      Findings unheard(1);
      NodeSource source(device_, *other, options_.check.node_cache, options_.check.skip_checksum);
      StoreScan scan(source, *other, unheard);
      scan.collect();
      mark_slot(&scan, used);
    }
    FreeBlocks free(used, kReservedBlocks, sb.total_blocks);
    generation_ = next_generation();
    NodeWriter out(device_, free, generation_, sb.uuid);
    auto later = sb;
    later.generation = generation_;
    NodeSource fresh(device_, later, options_.check.node_cache, options_.check.skip_checksum);
    LCFS_TRY(layers.build(out, fresh));
    LCFS_TRY_ASSIGN(auto const info, store.build(out, fresh));
    LCFS_TRY(device_.flush());
    return publish(info, true);
  }

  static void mark_slot(StoreScan const* scan, BlockMap& used) {
    for (auto const& r : scan->runs()) used.claim_rest(r.start, r.count, 1);
    for (auto const block : scan->nodes()) used.claim_rest(block, kNodeBlocks, 1);
    for (auto const block : scan->damaged_nodes())
      used.claim_rest(block, kNodeBlocks, 1);  // another attempt may read it
  }

  [[nodiscard]] std::uint64_t next_generation() const {
    std::uint64_t newest = newest_;
    for (auto const& s : survey_.slots)
      if (s) newest = std::max(newest, s->generation);
    return newest + 1;
  }

  // First the slot that is not in force, then, so that nothing old is left, the other one.
  Status publish(SuperblockInfo info, bool both) {
    info.generation = next_generation();
    info.written.clear();
    LCFS_TRY(device_.flush());  // without written runs the superblock requires that all its blocks
                                // are on the device
    for (std::uint32_t const slot : {1 - base_, base_}) {
      info.slot = slot;
      AlignedBuffer block(kBlockSize);
      encode_superblock(info, std::span<std::byte, kBlockSize>(block.data(), kBlockSize));
      LCFS_TRY(
          device_.write(kSlotBlock[slot] * kBlockSize, std::span<std::byte const>(block.span())));
      LCFS_TRY(device_.flush());
      done_.changed = true;
      if (!both) break;
      ++info.generation;
    }
    return {};
  }

  Device& device_;
  RepairOptions const& options_;
  Survey survey_{};
  Repaired done_{};
  std::uint32_t base_ = 0;
  std::uint64_t generation_ = 0;
  std::uint64_t newest_ = 0;  // with found_, the greatest generation of any node
  bool older_ = false, found_ = false;
};

}  // namespace

// A restored tree may have data that the first check could not see: then a second round repairs
// that.
Result<Repaired> repair(Device& device, RepairOptions const& options) {
  constexpr int kRounds = 3;
  LCFS_TRY_ASSIGN(auto done, Run(device, options)());
  done.after = done.before;
  bool changed = done.changed;
  for (int round = 1; changed; ++round) {
    LCFS_TRY_ASSIGN(done.after, check(device, options.check));
    if (done.after.clean() || done.declined || round == kRounds) break;
    LCFS_TRY_ASSIGN(auto const again, Run(device, options)());
    changed = again.changed;
    done.declined = again.declined;
  }
  return done;
}

}  // namespace lcfs::fsck
