// SPDX-License-Identifier: Apache-2.0
#include "fsck/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "device/written.h"
#include "fsck/deltas_ahead.h"
#include "fsck/history_check.h"
#include "fsck/layer_check.h"
#include "fsck/node_source.h"
#include "fsck/owners.h"
#include "fsck/store_scan.h"
#include "fsck/survey.h"
#include "fsck/tree_search.h"

namespace lcfs::fsck {
namespace {

void say(Findings& findings, Code code, Severity severity, std::uint64_t at, std::string text) {
  Finding f;
  f.code = code;
  f.severity = severity;
  f.offset = at;
  f.text = std::move(text);
  findings.add(std::move(f));
}

bool all_zero(std::span<std::byte const> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

using Parsed = std::array<std::optional<SuperblockInfo>, 2>;

// Reads [0, 64 KiB): both slots, and the zero blocks between them.
Result<Parsed> read_superblocks(Device& device, Options const& options, Report& report,
                                Findings& findings) {
  if (device.size() < kReservedBlocks * kBlockSize)
    return Error::invalid("not an lcfs store").in(device.name()).at(0);
  AlignedBuffer area(kReservedBlocks * kBlockSize);
  auto const parse = [&](std::uint32_t s) {
    return parse_superblock(area.span().subspan(kSlotBlock[s] * kBlockSize, kBlockSize),
                            {s, device.size(), options.skip_checksum});
  };
  // A store in use may be writing one of them: a torn superblock is whole at the next read.
  for (int tries = 0; tries < 3; ++tries) {
    LCFS_TRY(device.read(0, area.span()));
    if (parse(0) && parse(1)) break;
  }
  Parsed parsed;
  std::optional<Error> refusal;
  int strangers = 0;
  for (std::uint32_t s = 0; s < 2; ++s) {
    auto const at = kSlotBlock[s] * kBlockSize;
    auto const bytes = area.span().subspan(at, kBlockSize);
    auto& slot = report.slots[s];
    auto info = parse(s);
    if (info) {
      slot.state = SlotState::kValid;
      slot.generation = info->generation;
      parsed[s] = *std::move(info);
      continue;
    }
    auto const& error = info.error();
    if (all_zero(bytes.first(
            sizeof(Superblock)))) {  // what follows may belong to an interrupted first checkpoint
      slot.state = SlotState::kEmpty;
      ++strangers;
      continue;
    }
    if (error.code == Errc::kInvalid) ++strangers;
    if (error.code == Errc::kUnsupported) refusal = error;
    slot.state = SlotState::kDamaged;
    slot.problem = error.message;
    say(findings, Code::kSuperblock, Severity::kError, at + error.offset,
        fmt::format("superblock slot {}: {}", s, error.message));
  }
  // A store with a newer format is not damaged; its slot is the newer one, whatever the other has.
  if (refusal) return std::move(*refusal).in(device.name());
  if (strangers == 2 && !options.search)
    return Error::invalid("not an lcfs store; if it was one, try lcfs fsck --search")
        .in(device.name())
        .at(0);
  for (std::uint64_t b = 0; b < kReservedBlocks; ++b)
    if (b != kSlotBlock[0] && b != kSlotBlock[1] &&
        !all_zero(area.span().subspan(b * kBlockSize, kBlockSize)))
      say(findings, Code::kReserved, Severity::kNote, b * kBlockSize, "reserved block is not zero");
  return parsed;
}

std::uint32_t newer(Parsed const& both) {
  return both[1]->generation > both[0]->generation ? 1u : 0u;
}

// A superblock without all the blocks that were written with it is ignored if the one before it is
// valid.
void pass_over_unfinished(Device& device, Parsed& parsed, Report& report, Findings& findings) {
  if (!parsed[0] || !parsed[1]) return;
  auto const s = newer(parsed);
  if (is_whole(device, *parsed[s])) return;
  report.slots[s].state = SlotState::kUnfinished;
  say(findings, Code::kSuperblock, Severity::kNote, kSlotBlock[s] * kBlockSize,
      fmt::format(
          "superblock slot {}: checkpoint {} was not finished; the one before it is in force", s,
          parsed[s]->generation));
  parsed[s].reset();
}

// Determines the slot in force, and compares the two slots.
std::optional<std::uint32_t> choose_slot(Parsed const& parsed, Report const& report,
                                         Findings& findings) {
  auto const& a = parsed[0];
  auto const& b = parsed[1];
  if (!a && !b) {
    say(findings, Code::kSuperblock, Severity::kError, 0, "neither superblock can be read");
    return std::nullopt;
  }
  if (a && b) {
    auto const at = kSlotBlock[1] * kBlockSize;
    if (a->uuid != b->uuid)
      say(findings, Code::kSuperblock, Severity::kError, at + offsetof(Superblock, uuid),
          fmt::format("the slots belong to two stores: {} and {}", uuid_text(a->uuid),
                      uuid_text(b->uuid)));
    if (a->generation == b->generation)
      say(findings, Code::kSuperblock, Severity::kError, at + offsetof(Superblock, generation),
          fmt::format("both slots have generation {}", a->generation));
    return newer(parsed);
  }
  std::uint32_t const used = a ? 0 : 1;
  // Slot 0 is written by mkfs, slot 1 by the first checkpoint, which is generation 2.
  if (report.slots[1 - used].state == SlotState::kEmpty && parsed[used]->generation > 1)
    say(findings, Code::kSuperblock, Severity::kError, kSlotBlock[1 - used] * kBlockSize,
        fmt::format("superblock slot {} was wiped", 1 - used));
  // A crash cannot cause this: it leaves an incomplete newest checkpoint, which is ignored.
  if (report.slots[1 - used].state != SlotState::kUnfinished && parsed[used]->generation > 1)
    say(findings, Code::kSuperblock, Severity::kNote, kSlotBlock[1 - used] * kBlockSize,
        fmt::format("if superblock slot {} held a newer checkpoint, the changes after checkpoint "
                    "{} are lost",
                    1 - used, parsed[used]->generation));
  return used;
}

// Joins adjacent pieces: a tree of many small extents has few.
std::vector<Piece> pieces_of(std::vector<Use> const& uses, bool skeleton) {
  std::vector<Piece> pieces;
  pieces.reserve(uses.size());
  for (auto const& u : uses) {
    if ((u.inode == kSkeletonUse) == skeleton) pieces.push_back({u.block, u.count, u.owner});
  }
  std::sort(pieces.begin(), pieces.end(),
            [](Piece const& a, Piece const& b) { return a.start < b.start; });
  std::size_t n = 0;
  for (auto const& p : pieces) {
    // Data of an ancestor may be used more than once: then pieces overlap.
    if (n > 0 && pieces[n - 1].owner == p.owner &&
        p.start - pieces[n - 1].start <= pieces[n - 1].count)
      pieces[n - 1].count = std::max(pieces[n - 1].count, p.start - pieces[n - 1].start + p.count);
    else
      pieces[n++] = p;
  }
  pieces.resize(n);
  pieces.shrink_to_fit();
  return pieces;
}

void check_layers(LayerContext const& context, Options const& options, Survey& survey) {
  auto& counters = survey.report.counters;
  // Results by layer: a few numbers each, for layers that share their parent's root.
  auto& done = survey.layers;
  auto const& order = context.scan.order();
  DeltasAhead deltas(context, options);
  for (std::size_t i = 0; i < order.size(); ++i) {
    auto const& layer = *order[i];
    if (options.progress) options.progress(layer.info.name, i, order.size());
    auto const parent = done.find(layer.info.parent);
    auto const* parent_entry = context.scan.layer(layer.info.parent);
    bool const same = parent != done.end() && parent_entry != nullptr &&
                      parent_entry->info.root == layer.info.root &&
                      parent_entry->info.root_inode == layer.info.root_inode;
    if (options.stopped()) return;
    auto delta = deltas.take(i);
    LayerCheck check(context, layer);
    auto const result = check.run(
        parent != done.end() && parent_entry != nullptr ? &parent->second.result : nullptr, same,
        std::move(delta));
    counters.inodes += result.inodes;
    counters.layer_nodes += result.node_blocks;
    counters.layer_data += result.data_blocks;
    counters.data_checked += check.data_blocks_checked();
    auto& facts = done[layer.info.id];
    facts.result = result;
    if (!context.collect) continue;
    facts.reached = pieces_of(check.uses(), false);
    if (layer.info.skeleton_blocks != 0) facts.skeleton = pieces_of(check.uses(), true);
    facts.bad = check.bad_data();
  }
  counters.layers = order.size();
}

}  // namespace

Result<Survey> inspect(Device& device, Options const& options, State const& state) {
  Survey survey;
  auto& report = survey.report;
  Findings findings(options.max_findings);
  LCFS_TRY_ASSIGN(survey.slots, read_superblocks(device, options, report, findings));
  if (!options.skip_checksum) pass_over_unfinished(device, survey.slots, report, findings);
  report.in_force = choose_slot(survey.slots, report, findings);
  if (state.slot && survey.slots[*state.slot]) report.in_force = state.slot;
  if (state.found != nullptr) report.in_force.reset();
  if (state.found != nullptr || report.in_force) {
    auto const& superblock = survey.superblock =
        state.found != nullptr ? *state.found : *survey.slots[*report.in_force];
    report.superblock = superblock;
    survey.source =
        std::make_unique<NodeSource>(device, superblock, options.node_cache, options.skip_checksum);
    survey.scan = std::make_unique<StoreScan>(*survey.source, superblock, findings);
    auto& scan = *survey.scan;
    scan.collect();
    scan.check();

    auto& c = report.counters;
    c.total = superblock.total_blocks;
    c.reserved = kReservedBlocks;
    c.store_tree = scan.nodes().size() * kNodeBlocks;
    c.free = check_owners(scan, superblock, findings);
    for (auto const& f : findings.list())
      if (f.severity == Severity::kError && f.code != Code::kSuperblock) {
        survey.store_errors.insert(f.code);
        if (f.code == Code::kNode || f.code == Code::kIo || f.code == Code::kRecord)
          survey.store_lines.push_back(f.line());
      }
    c.images = scan.images();
    for (auto const& layer : scan.layers())
      if (layer.info.state == LayerState::kDying) c.dying += layer.run_blocks;
    check_layers({device, *survey.source, scan, superblock, findings, options.data, options.threads,
                  !options.walk_all, options.collect, options.stop},
                 options, survey);
    if (options.stopped()) return Error::interrupted();
    c.history = check_history({device, *survey.source, scan, superblock, findings, options.data,
                               options.threads, !options.walk_all, false, options.stop},
                              options, survey.layers, survey.kept);
    c.free -= std::min(c.free, c.history);
    if (survey.kept.size() != scan.checkpoints().size()) survey.store_errors.insert(Code::kHistory);
    if (options.stopped()) return Error::interrupted();
    c.nodes_read = survey.source->nodes_read();
  }
  report.errors = findings.errors();
  report.notes = findings.notes();
  report.left_out = findings.left_out();
  report.findings = findings.take();
  return survey;
}

Result<Report> check(Device& device, Options const& options) {
  LCFS_TRY_ASSIGN(auto survey, inspect(device, options, {}));
  auto& report = survey.report;
  if (!options.search || std::any_of(report.slots.begin(), report.slots.end(), cut_short))
    return std::move(report);
  // The slot that repairs would start from, if either can be read.
  std::optional<std::uint64_t> whole;
  if (report.in_force && survey.scan->complete())
    whole = survey.superblock.generation;
  else if (report.in_force && survey.slots[1 - *report.in_force]) {
    LCFS_TRY_ASSIGN(auto const older, inspect(device, options, {1 - *report.in_force, nullptr}));
    if (older.scan->complete()) whole = older.superblock.generation;
  }
  auto const found =
      search_tree(device, options, survey.slots, whole ? last_without_superblock(*whole) : 0);
  if (!found && found.error().code == Errc::kInterrupted) return found.error();
  if (!found && whole) return std::move(report);
  Findings more(1);
  say(more, Code::kSuperblock, whole ? Severity::kError : Severity::kNote,
      found ? found->superblock.store_root.block.get() * kBlockSize : kNoOffset,
      !found ? found.error().message
             : (whole ? "the superblocks are older than a whole store tree: "
                      : "a whole store tree was found: ") +
                   found->text());
  report.errors += more.errors();
  report.notes += more.notes();
  for (auto& f : more.take()) report.findings.push_back(std::move(f));
  return std::move(report);
}

}  // namespace lcfs::fsck
