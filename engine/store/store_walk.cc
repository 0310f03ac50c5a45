// SPDX-License-Identifier: Apache-2.0
#include "engine/store/store_walk.h"

#include <fmt/format.h>

#include <algorithm>

#include "format/node.h"

namespace lcfs {

Status walk_store_tree(Device& device, SuperblockInfo const& super, NodePtr const& root,
                       StoreTreeUse const* skip, StoreTreeUse& out) {
  struct Step {
    NodePtr ptr;
    std::uint8_t level;
    bool exact;
    bool leave;  // all below it is done
  };
  std::vector<Step> todo;
  if (root.block.get() != 0) todo.push_back({root, kMaxLevel, false, false});
  AlignedBuffer bytes(kNodeSize);
  while (!todo.empty()) {
    Step const step = todo.back();
    todo.pop_back();
    std::uint64_t const block = step.ptr.block.get();
    if (step.leave) {
      auto& seen = out.seen.at(block);
      seen.nodes_end = out.nodes.size();
      seen.runs_end = out.runs.size();
      continue;
    }
    if (skip != nullptr) {
      auto it = skip->seen.find(block);
      if (it != skip->seen.end() && it->second.generation == step.ptr.generation.get()) {
        out.shared.push_back(it->second);
        continue;
      }
    }
    if (block < kReservedBlocks || block > super.total_blocks - kNodeBlocks) {
      return Error::corrupt("the store tree points outside the store")
          .in(device.name())
          .at(block * kBlockSize);
    }
    if (!out.seen
             .emplace(block, StoreTreeUse::Seen{step.ptr.generation.get(), out.nodes.size(), 0,
                                                out.runs.size(), 0})
             .second) {
      return Error::corrupt("the store tree references a node twice")
          .in(device.name())
          .at(block * kBlockSize);
    }
    LCFS_TRY(device.read(block * kBlockSize, bytes.span()));
    NodeExpectation expect{block,
                           step.ptr.generation.get(),
                           step.ptr.checksum.get(),
                           step.level,
                           step.exact,
                           super.uuid,
                           false};
    auto located = [&](Error e) {
      e.path = device.name();
      e.offset = block * kBlockSize + (e.offset == kNoOffset ? 0 : e.offset);
      return e;
    };
    if (auto ok = check_node(bytes.span(), expect, super.total_blocks); !ok)
      return located(std::move(ok).error());
    out.nodes.push_back({block, kNodeBlocks});
    todo.push_back({step.ptr, 0, true, true});
    NodeReader const node(bytes.data());
    if (!node.leaf()) {
      for (std::uint32_t i = 0; i < node.count(); ++i) {
        todo.push_back(
            {node.entry(i).child, static_cast<std::uint8_t>(node.header().level - 1), true, false});
      }
      continue;
    }
    for (std::uint32_t i = 0; i < node.count(); ++i) {
      Key const key = node.key(i);
      if (key.kind == kRun) {
        auto run = parse_run(key, node.value(i), super.total_blocks);
        if (!run) return located(std::move(run).error());
        out.runs.push_back({run->start, run->count});
      } else if (key.kind == kLayer) {
        auto layer = parse_layer(key, node.value(i), super.total_blocks);
        if (!layer) return located(std::move(layer).error());
        if (layer->state == LayerState::kDying) out.dying.push_back(layer->id);
      } else if (key.kind == kCheckpoint) {
        auto kept = parse_checkpoint(key, node.value(i), super.total_blocks);
        if (!kept) return located(std::move(kept).error());
        out.kept.push_back(*std::move(kept));
      }
    }
  }
  std::sort(out.kept.begin(), out.kept.end(),
            [](auto const& a, auto const& b) { return a.generation < b.generation; });
  return {};
}

namespace {

// Sorts; refuses overlaps, and extents that reach into the superblock area.
Status check_disjoint(std::vector<Extent>& used, Device const& device) {
  std::sort(used.begin(), used.end());
  std::uint64_t end = kReservedBlocks;
  for (auto const& e : used) {
    if (e.start < end) {
      return Error::corrupt(fmt::format("block {} has two owners; run lcfs fsck", e.start))
          .in(device.name())
          .at(e.start * kBlockSize);
    }
    end = e.end();
  }
  return {};
}

// Calls take(part, inside) for each part of `e` that is, or is not, in `set`, which is sorted and
// disjoint.
template <class Take>
void split(Extent e, std::vector<Extent> const& set, Take const& take) {
  auto it = std::upper_bound(set.begin(), set.end(), e.start,
                             [](std::uint64_t at, Extent const& s) { return at < s.start; });
  if (it != set.begin()) --it;
  std::uint64_t at = e.start;
  for (; it != set.end() && it->start < e.end(); ++it) {
    std::uint64_t const low = std::max(it->start, at), high = std::min(it->end(), e.end());
    if (low >= high) continue;
    if (at < low) take(Extent{at, low - at}, false);
    take(Extent{low, high - low}, true);
    at = high;
  }
  if (at < e.end()) take(Extent{at, e.end() - at}, false);
}

// The blocks of a tree that was walked beside another, with what both have.
template <class Take>
void for_each_used(StoreTreeUse const& walk, StoreTreeUse const& other, Take const& take) {
  for (auto const& e : walk.nodes) take(e);
  for (auto const& e : walk.runs) take(e);
  for (auto const& s : walk.shared) {
    for (std::size_t i = s.node; i < s.nodes_end; ++i) take(other.nodes[i]);
    for (std::size_t i = s.run; i < s.runs_end; ++i) take(other.runs[i]);
  }
}

std::vector<Extent> own_blocks(StoreTreeUse const& walk) {
  std::vector<Extent> out = walk.nodes;
  out.insert(out.end(), walk.runs.begin(), walk.runs.end());
  normalize(out);
  return out;
}

// The blocks that `current` uses and the tree that was walked beside it does not.
std::vector<Extent> only_current(StoreTreeUse const& current, StoreTreeUse const& walk) {
  std::vector<bool> node(current.nodes.size(), false), run(current.runs.size(), false);
  for (auto const& s : walk.shared) {
    std::fill(node.begin() + static_cast<std::ptrdiff_t>(s.node),
              node.begin() + static_cast<std::ptrdiff_t>(s.nodes_end), true);
    std::fill(run.begin() + static_cast<std::ptrdiff_t>(s.run),
              run.begin() + static_cast<std::ptrdiff_t>(s.runs_end), true);
  }
  std::vector<Extent> rest;
  for (std::size_t i = 0; i < node.size(); ++i) {
    if (!node[i]) rest.push_back(current.nodes[i]);
  }
  for (std::size_t i = 0; i < run.size(); ++i) {
    if (!run[i]) rest.push_back(current.runs[i]);
  }
  auto const theirs = own_blocks(walk);
  std::vector<Extent> out;
  for (auto const& e : rest) {
    split(e, theirs, [&](Extent part, bool inside) {
      if (!inside) out.push_back(part);
    });
  }
  normalize(out);
  return out;
}

}  // namespace

Result<Usage> find_usage(Device& device, SuperblockInfo const& super, StoreRoot const& root,
                         std::vector<KeptCheckpoint> const* kept) {
  Usage u;
  LCFS_TRY(walk_store_tree(device, super, root.root, nullptr, u.current));
  u.used = u.current.nodes;
  u.used.insert(u.used.end(), u.current.runs.begin(), u.current.runs.end());
  LCFS_TRY(check_disjoint(u.used, device));
  std::uint64_t layer_blocks = 0;
  for (auto const& e : u.current.runs) layer_blocks += e.count;
  if (layer_blocks != root.layer_blocks ||
      u.current.nodes.size() * kNodeBlocks != root.store_tree_blocks) {  // I5
    return Error::corrupt("the totals of used space do not match; run lcfs fsck").in(device.name());
  }
  auto const& all = kept != nullptr ? *kept : u.current.kept;
  std::vector<Extent> taken = u.used;  // by the current tree and by kept ones that are newer
  for (std::size_t i = all.size(); i-- > 0;) {
    StoreTreeUse walk;
    bool sound = walk_store_tree(device, super, all[i].root, &u.current, walk).ok();
    auto const own = own_blocks(walk);
    for (std::size_t n = 1; sound && n < own.size(); ++n) sound = own[n - 1].end() <= own[n].start;
    if (!sound) {
      u.lost.assign(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(i) + 1);
      break;
    }
    std::uint64_t const generation = all[i].generation;
    if (u.kept.empty()) {
      for (auto const& e : only_current(u.current, walk)) u.later.push_back({e, 0});
    } else if (!u.later.empty()) {
      // Blocks that were dropped and are back: a store that went back has them.
      std::vector<Extent> unclaimed;
      for (auto const& a : u.later) {
        if (a.generation == 0) unclaimed.push_back(a.blocks);
      }
      std::vector<Extent> claimed;
      for_each_used(walk, u.current, [&](Extent e) {
        split(e, unclaimed, [&](Extent part, bool inside) {
          if (inside) claimed.push_back(part);
        });
      });
      if (!claimed.empty()) {
        normalize(claimed);
        std::vector<Aged> next;
        for (auto const& a : u.later) {
          if (a.generation != 0) {
            next.push_back(a);
            continue;
          }
          split(a.blocks, claimed, [&](Extent part, bool inside) {
            next.push_back({part, inside ? generation : 0});
          });
        }
        u.later = std::move(next);
      }
    }
    auto const before = static_cast<std::ptrdiff_t>(taken.size());
    std::vector<Extent> fresh;
    for (auto const& e : own) {
      split(e, taken, [&](Extent part, bool inside) {
        if (!inside) fresh.push_back(part);
      });
    }
    for (auto const& e : fresh) u.history.push_back({e, generation});
    taken.insert(taken.end(), fresh.begin(), fresh.end());
    std::inplace_merge(taken.begin(), taken.begin() + before, taken.end());
    u.kept.push_back(all[i]);
  }
  std::reverse(u.kept.begin(), u.kept.end());
  return u;
}

}  // namespace lcfs
