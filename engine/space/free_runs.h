// SPDX-License-Identifier: Apache-2.0
// Runs of blocks, and sets of them.
// Not thread safe.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "engine/types.h"
#include "format/layout.h"

namespace lcfs {

struct Extent {  // blocks
  std::uint64_t start = 0;
  std::uint64_t count = 0;
  [[nodiscard]] std::uint64_t end() const { return start + count; }
  friend auto operator<=>(Extent const&, Extent const&) = default;
};

// Sorts them and joins those that touch.
void normalize(std::vector<Extent>& extents);

// What is in `all` and not in `some`; both normalized, `some` inside `all`.
std::vector<Extent> subtract(std::vector<Extent> const& all, std::vector<Extent> const& some);

// A set of disjoint free runs with best-fit in O(log n).
class FreeRuns {
 public:
  void add(Extent e);                          // must not overlap; joins neighbours
  bool remove(Extent e);                       // e must lie inside one run
  std::vector<Extent> take_overlap(Extent e);  // removes and returns the parts of e that are here
  // Removes and returns a run of at least `least` blocks, best fit for `want`, starting at `hint`
  // if that is free; cut to `want`.  count == 0: there is none.
  Extent take(std::uint64_t least, std::uint64_t want, std::uint64_t hint);
  // The same with the longest run that is too short for a node.
  Extent take_splinter(std::uint64_t want);
  [[nodiscard]] std::uint64_t blocks() const { return blocks_; }
  // Those of them that nodes can use, packed from the start of each run.
  [[nodiscard]] std::uint64_t node_blocks() const { return slots_ * kNodeBlocks; }
  [[nodiscard]] std::size_t runs() const { return by_start_.size(); }
  [[nodiscard]] std::map<std::uint64_t, std::uint64_t> const& map() const { return by_start_; }

 private:
  void insert(std::uint64_t start, std::uint64_t count);
  void erase(std::map<std::uint64_t, std::uint64_t>::iterator it);
  std::map<std::uint64_t, std::uint64_t> by_start_;             // start -> count
  std::set<std::pair<std::uint64_t, std::uint64_t>> by_count_;  // (count, start)
  std::uint64_t blocks_ = 0, slots_ = 0;                        // slots_: nodes that would fit
};

}  // namespace lcfs
