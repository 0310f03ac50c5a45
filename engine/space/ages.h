// SPDX-License-Identifier: Apache-2.0
// Disjoint runs of blocks, each with the newest kept checkpoint that names it (space_map.h).
// Not thread safe.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "engine/space/free_runs.h"

namespace lcfs {

// Blocks, and the newest kept checkpoint that names them; 0: none.
struct Aged {
  Extent blocks{};
  std::uint64_t generation = 0;
};

class AgeMap {
 public:
  // e must not overlap what is here; joins neighbours of the same generation.
  void add(Extent e, std::uint64_t generation);
  // Removes and returns the parts of `e` that are here, in order.
  std::vector<Aged> take(Extent e);
  // Takes over all of `other`, which is empty afterwards.
  void merge(AgeMap& other);
  // Generation `from` becomes `to`.
  void change(std::uint64_t from, std::uint64_t to);
  void clear() { runs_.clear(); }
  [[nodiscard]] bool empty() const { return runs_.empty(); }

 private:
  struct Run {
    std::uint64_t count = 0, generation = 0;
  };
  std::map<std::uint64_t, Run> runs_;  // by first block
};

}  // namespace lcfs
