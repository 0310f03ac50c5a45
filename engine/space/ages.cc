// SPDX-License-Identifier: Apache-2.0
#include "engine/space/ages.h"

#include <algorithm>
#include <iterator>

namespace lcfs {

void AgeMap::add(Extent e, std::uint64_t generation) {
  if (e.count == 0) return;
  auto next = runs_.lower_bound(e.start);
  if (next != runs_.end() && next->first == e.end() && next->second.generation == generation) {
    e.count += next->second.count;
    next = runs_.erase(next);
  }
  if (next != runs_.begin()) {
    auto const before = std::prev(next);
    if (before->first + before->second.count == e.start &&
        before->second.generation == generation) {
      before->second.count += e.count;
      return;
    }
  }
  runs_.emplace_hint(next, e.start, Run{e.count, generation});
}

std::vector<Aged> AgeMap::take(Extent e) {
  std::vector<Aged> out;
  auto it = runs_.upper_bound(e.start);
  if (it != runs_.begin()) --it;
  while (it != runs_.end() && it->first < e.end()) {
    std::uint64_t const start = it->first, end = start + it->second.count,
                        generation = it->second.generation;
    std::uint64_t const low = std::max(start, e.start), high = std::min(end, e.end());
    if (low >= high) {
      ++it;
      continue;
    }
    out.push_back({{low, high - low}, generation});
    it = runs_.erase(it);
    if (start < low) runs_.emplace_hint(it, start, Run{low - start, generation});
    if (high < end) runs_.emplace_hint(it, high, Run{end - high, generation});
  }
  return out;
}

void AgeMap::merge(AgeMap& other) {
  if (runs_.empty()) {
    runs_.swap(other.runs_);
    return;
  }
  for (auto const& [start, run] : other.runs_) add({start, run.count}, run.generation);
  other.clear();
}

void AgeMap::change(std::uint64_t from, std::uint64_t to) {
  for (auto& [start, run] : runs_) {
    if (run.generation == from) run.generation = to;
  }
}

}  // namespace lcfs
