// SPDX-License-Identifier: Apache-2.0
// Space runs in the store tree: (layer, first block) -> length, exactly the blocks a layer's
// durable state uses.
#include <fmt/format.h>

#include "engine/store/layer_table.h"
#include "engine/tree/tree.h"

namespace lcfs {

namespace {

struct FoundRun {
  std::uint64_t start = 0, count = 0;
};

// The run of `id` that begins at or before `block`, if any.
Result<std::optional<FoundRun>> floor_run(Tree const& tree, LayerId id, std::uint64_t block,
                                          std::uint64_t total) {
  Tree::Cursor c(tree);
  LCFS_TRY(c.seek_floor({id, kRun, block}));
  if (!c.valid() || c.key().inode != id || c.key().kind != kRun) return std::optional<FoundRun>{};
  LCFS_TRY_ASSIGN(auto const run, parse_run(c.key(), c.value(), total));
  return std::optional<FoundRun>(FoundRun{run.start, run.count});
}

Status put_run(Tree& tree, LayerId id, std::uint64_t start, std::uint64_t count) {
  return tree.put({id, kRun, start}, as_bytes(encode_run({id, start, count})));
}

}  // namespace

Status LayerTable::add_runs(LayerId id, std::vector<Extent> extents) {
  Tree& tree = tree_.edit();
  normalize(extents);
  for (auto e : extents) {
    LCFS_TRY_ASSIGN(auto const after, floor_run(tree, id, e.end(), space_.total()));
    if (after && after->start == e.end()) {
      LCFS_TRY(tree.erase({id, kRun, after->start}));
      e.count += after->count;
    }
    LCFS_TRY_ASSIGN(auto const before, floor_run(tree, id, e.start, space_.total()));
    if (before && before->start + before->count == e.start) {
      e.start = before->start;
      e.count += before->count;
    }
    LCFS_TRY(put_run(tree, id, e.start, e.count));
  }
  return {};
}

Status LayerTable::remove_runs(LayerId id, std::vector<Extent> extents) {
  Tree& tree = tree_.edit();
  normalize(extents);
  for (auto const& e : extents) {
    LCFS_TRY_ASSIGN(auto const run, floor_run(tree, id, e.start, space_.total()));
    if (!run || e.start - run->start >= run->count ||
        e.count > run->count - (e.start - run->start)) {
      return Error::corrupt(fmt::format("layer {} frees blocks {}..{}, which it does not own", id,
                                        e.start, e.end() - 1));
    }
    if (run->start == e.start) {
      LCFS_TRY(tree.erase({id, kRun, run->start}));
    } else {
      LCFS_TRY(put_run(tree, id, run->start, e.start - run->start));
    }
    if (run->start + run->count > e.end())
      LCFS_TRY(put_run(tree, id, e.end(), run->start + run->count - e.end()));
  }
  return {};
}

Result<std::vector<Extent>> LayerTable::reclaim(LayerId id, std::size_t most) {
  Tree& tree = tree_.edit();
  std::vector<Extent> runs;
  LCFS_TRY(scan(tree, {id, kRun, 0}, {id, kRun, ~0ull},
                [&](Key const& key, Bytes value) -> Result<bool> {
                  LCFS_TRY_ASSIGN(auto const run, parse_run(key, value, space_.total()));
                  runs.push_back({run.start, run.count});
                  return runs.size() < most;
                }));
  if (!runs.empty())
    LCFS_TRY(tree.erase_range({id, kRun, 0}, {id, kRun, runs.back().start}, nullptr));
  for (auto const& e : runs) blocks_ -= e.count;
  if (runs.size() < most) {
    LCFS_TRY(tree.erase({id, kLayer, 0}));
    return runs;
  }
  LCFS_TRY_ASSIGN(auto record, this->record(id));
  for (auto const& e : runs) record.own_blocks -= e.count;
  LCFS_TRY(put(record));
  return runs;
}

}  // namespace lcfs
