// SPDX-License-Identifier: Apache-2.0
#include "fsck/history_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <vector>

namespace lcfs::fsck {
namespace {

struct Span {
  std::uint64_t start = 0, end = 0, owner = 0;  // owner 0: the store tree
  friend auto operator<=>(Span const&, Span const&) = default;
};

std::vector<Span> spans_of(StoreScan const& scan) {
  std::vector<Span> out;
  out.reserve(scan.runs().size() + scan.nodes().size());
  for (auto const& r : scan.runs()) out.push_back({r.start, r.start + r.count, r.layer});
  for (auto const block : scan.nodes()) out.push_back({block, block + kNodeBlocks, 0});
  std::sort(out.begin(), out.end());
  return out;
}

// Blocks of `spans`, each once, that none of `without` has; both sorted.
std::uint64_t count_without(std::vector<Span> const& spans, std::vector<Span> const& without) {
  std::uint64_t count = 0, done = 0;
  std::size_t w = 0;
  for (auto const& s : spans) {
    auto at = std::max(s.start, done);
    while (at < s.end) {
      while (w < without.size() && without[w].end <= at) ++w;
      if (w < without.size() && without[w].start <= at) {
        at = without[w].end;
        continue;
      }
      auto const to = w < without.size() ? std::min(s.end, without[w].start) : s.end;
      count += to - at;
      at = to;
    }
    done = std::max(done, s.end);
  }
  return count;
}

// Layer, root: block and generation.
using Tree = std::tuple<std::uint64_t, std::uint64_t, std::uint64_t>;
Tree tree_of(LayerInfo const& info) {
  return {info.id, info.root.block.get(), info.root.generation.get()};
}

}  // namespace

std::uint64_t check_history(LayerContext const& now, Options const& options,
                            std::unordered_map<std::uint64_t, LayerFacts> const& layers,
                            std::vector<KeptFacts>& sound) {
  auto const current = spans_of(now.scan);
  struct Known {
    bool sound = true;
    std::uint64_t last_inode = 0;
  };
  std::map<Tree, Known> known;  // several checkpoints, and the current store, may share one
  for (auto const& l : now.scan.layers()) {
    auto const facts = layers.find(l.info.id);
    if (facts == layers.end()) continue;  // dying: it has no tree
    auto const& result = facts->second.result;
    known.emplace(tree_of(l.info), Known{result.tree_sound && result.complete, result.last_inode});
  }
  std::vector<Span> all;
  auto const& kept = now.scan.checkpoints();
  for (std::size_t i = kept.size(); i-- > 0;) {
    auto const& entry = kept[i];
    // First check it as a store of its own.
    SuperblockInfo then = now.superblock;
    then.generation = entry.info.generation;
    then.store_root = entry.info.root;
    then.store_tree_blocks = entry.info.store_tree_blocks;
    then.layer_blocks = entry.info.layer_blocks;
    then.layer_count = entry.info.layer_count;
    then.image_count = entry.info.image_count;
    Findings findings(options.max_findings);
    StoreScan scan(now.source, then, findings);
    scan.collect();
    scan.check();
    (void)check_owners(scan, then, findings);
    LayerContext const context{now.device, now.source, scan,        then,
                               findings,   now.data,   now.threads, now.delta};
    bool is_sound = true;
    KeptFacts facts{entry.info, {}};
    std::vector<std::string> damaged;  // layers whose damage was reported before
    for (auto const* layer : scan.order()) {
      auto const [it, fresh] = known.emplace(tree_of(layer->info), Known{});
      if (fresh) {
        auto const before = findings.errors();
        it->second.last_inode = LayerCheck(context, *layer).run(nullptr, false).last_inode;
        it->second.sound = findings.errors() == before;
      } else if (!it->second.sound) {
        is_sound = false;
        damaged.push_back(layer->info.name);
      }
      facts.last_inode = std::max(facts.last_inode, it->second.last_inode);
    }
    facts.last_id = scan.last_id();
    auto const prefix =
        fmt::format("restore point {} ({}): ", entry.info.generation, entry.info.text);
    for (auto& f : findings.take()) {
      if (f.severity != Severity::kError) continue;
      is_sound = false;
      f.text = prefix + std::string(code_name(f.code)) + ": " + f.text;
      f.code = Code::kHistory;
      now.findings.add(std::move(f));
    }
    if (!damaged.empty()) {
      Finding f;
      f.code = Code::kHistory;
      f.text = fmt::format("{}includes the damage of {} {}", prefix,
                           damaged.size() == 1 ? "layer" : "layers", fmt::join(damaged, ", "));
      now.findings.add(std::move(f));
    }
    // Then check that nothing of it belongs to another owner now.
    auto const spans = spans_of(scan);
    std::size_t c = 0;
    for (auto const& s : spans) {
      while (c < current.size() && current[c].end <= s.start) ++c;
      for (auto o = c; o < current.size() && current[o].start < s.end; ++o) {
        if (current[o].owner == s.owner) continue;
        is_sound = false;
        Finding f;
        f.code = Code::kHistory;
        f.offset = std::max(s.start, current[o].start) * kBlockSize;
        f.text = fmt::format(
            "{}block {} of {} now belongs to {}", prefix, std::max(s.start, current[o].start),
            s.owner == 0 ? std::string("its store tree") : fmt::format("layer {}", s.owner),
            current[o].owner == 0 ? std::string("the store tree")
                                  : fmt::format("layer {}", current[o].owner));
        now.findings.add(std::move(f));
        break;
      }
    }
    all.insert(all.end(), spans.begin(), spans.end());
    if (!is_sound) continue;
    for (auto const& s : spans) facts.blocks.push_back({s.start, s.end - s.start, 0});
    sound.push_back(std::move(facts));
  }
  std::reverse(sound.begin(), sound.end());
  std::sort(all.begin(), all.end());
  return count_without(all, current);
}

}  // namespace lcfs::fsck
