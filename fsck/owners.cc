// SPDX-License-Identifier: Apache-2.0
#include "fsck/owners.h"

#include <fmt/format.h>

#include <algorithm>

namespace lcfs::fsck {

std::uint64_t check_owners(StoreScan const& scan, SuperblockInfo const& superblock,
                           Findings& findings) {
  struct Span {
    std::uint64_t start, count, layer, at;
  };
  std::vector<Span> spans;
  spans.reserve(scan.runs().size() + scan.nodes().size());
  for (auto const& r : scan.runs()) spans.push_back({r.start, r.count, r.layer, r.at});
  for (auto const block : scan.nodes())
    spans.push_back({block, kNodeBlocks, 0, block * kBlockSize});
  std::sort(spans.begin(), spans.end(),
            [](Span const& a, Span const& b) { return a.start < b.start; });

  auto const owner = [&scan](std::uint64_t layer) {
    return layer == 0 ? std::string{"the store tree"}
                      : fmt::format("layer {} ({})", layer, scan.name_of(layer));
  };
  std::uint64_t covered = 0, end = kReservedBlocks;
  Span const* last = nullptr;  // the one that ends at `end`
  for (auto const& s : spans) {
    auto const stop = s.start + s.count;
    if (last != nullptr && s.start < end) {
      Finding f;
      f.code = Code::kSpace;
      f.layer = s.layer;
      f.layer_name = scan.name_of(s.layer);
      f.offset = s.at;
      f.text = fmt::format("blocks {}+{} of {} are also owned by {}", s.start,
                           std::min(end, stop) - s.start, owner(s.layer), owner(last->layer));
      findings.add(std::move(f));
    }
    if (stop > end) {
      covered += stop - std::max(end, s.start);
      end = stop;
      last = &s;
    }
  }
  auto const total = superblock.total_blocks - kReservedBlocks;
  return covered > total ? 0 : total - covered;
}

void find_overlaps(std::vector<Use>& uses,
                   std::function<void(Use const&, Use const&)> const& twice) {
  std::sort(uses.begin(), uses.end(), [](Use const& a, Use const& b) { return a.block < b.block; });
  Use const* last = nullptr;  // the one that ends last
  for (auto const& u : uses) {
    if (last != nullptr && u.block - last->block < last->count) twice(*last, u);
    if (last == nullptr || u.block + u.count > last->block + last->count) last = &u;
  }
}

std::vector<SpaceDifference> compare_runs(std::uint64_t layer, std::span<Use const> uses,
                                          std::span<RunEntry const> runs) {
  std::vector<SpaceDifference> out;
  auto const tell = [&out](std::uint64_t from, std::uint64_t to, bool used, std::uint64_t inode) {
    if (from >= to) return;
    if (!out.empty() && out.back().used == used && out.back().inode == inode &&
        out.back().block + out.back().count == from)
      out.back().count += to - from;
    else
      out.push_back({from, to - from, used, inode});
  };
  // Both sides are sorted; `done` is the first block of the current run that is not accounted for
  // yet.
  std::size_t r = 0;
  std::uint64_t done = runs.empty() ? 0 : runs[0].start;
  auto const next_run = [&] {
    tell(done, runs[r].start + runs[r].count, false, 0);
    if (++r < runs.size()) done = std::max(done, runs[r].start);
  };
  for (auto const& u : uses) {
    if (u.owner != layer) continue;
    auto at = u.block;
    auto const end = u.block + u.count;
    while (at < end) {
      while (r < runs.size() && runs[r].start + runs[r].count <= at) next_run();
      if (r == runs.size()) {
        tell(at, end, true, u.inode);
        break;
      }
      auto const& run = runs[r];
      if (at < run.start) {
        auto const to = std::min(end, run.start);
        tell(at, to, true, u.inode);
        at = to;
        continue;
      }
      tell(done, at, false, 0);
      auto const to = std::min(end, run.start + run.count);
      done = std::max(done, to);
      at = to;
    }
  }
  while (r < runs.size()) next_run();
  return out;
}

}  // namespace lcfs::fsck
