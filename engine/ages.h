// SPDX-License-Identifier: Apache-2.0
// Disjoint runs of blocks with a generation each: which kept checkpoint is the newest that names
// them (engine/space.h). Not thread safe.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "engine/free_runs.h"

namespace lcfs {

// Blocks, and the newest kept checkpoint that names them; 0: none.
struct Aged {
  Extent blocks{};
  std::uint64_t generation = 0;
};

class AgeMap {
 public:
  void add(Extent e,
           std::uint64_t generation);  // must not overlap; joins neighbours of the same generation
  // Removes the parts of `e` that are here, in order.
  std::vector<Aged> take(Extent e);
  // All of `other`, which is empty afterwards.
  void merge(AgeMap& other);
  // What has generation `from` gets `to`.
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
