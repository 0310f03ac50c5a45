// SPDX-License-Identifier: Apache-2.0
#include "engine/space/free_runs.h"

#include <algorithm>

namespace lcfs {

void normalize(std::vector<Extent>& extents) {
  std::sort(extents.begin(), extents.end());
  std::size_t out = 0;
  for (std::size_t i = 0; i < extents.size(); ++i) {
    if (extents[i].count == 0) continue;
    if (out > 0 && extents[out - 1].end() == extents[i].start) {
      extents[out - 1].count += extents[i].count;
    } else {
      extents[out++] = extents[i];
    }
  }
  extents.resize(out);
}

std::vector<Extent> subtract(std::vector<Extent> const& all, std::vector<Extent> const& some) {
  std::vector<Extent> out;
  std::size_t j = 0;
  for (auto const& e : all) {
    std::uint64_t at = e.start;
    while (j < some.size() && some[j].start < e.end()) {
      if (some[j].start > at) out.push_back({at, some[j].start - at});
      at = some[j].end();
      ++j;
    }
    if (at < e.end()) out.push_back({at, e.end() - at});
  }
  return out;
}

void FreeRuns::insert(std::uint64_t start, std::uint64_t count) {
  by_start_.emplace(start, count);
  by_count_.emplace(count, start);
  slots_ += count / kNodeBlocks;
}

void FreeRuns::erase(std::map<std::uint64_t, std::uint64_t>::iterator it) {
  slots_ -= it->second / kNodeBlocks;
  by_count_.erase({it->second, it->first});
  by_start_.erase(it);
}

void FreeRuns::add(Extent e) {
  if (e.count == 0) return;
  blocks_ += e.count;
  auto next = by_start_.lower_bound(e.start);
  if (next != by_start_.end() && next->first == e.end()) {
    e.count += next->second;
    auto const gone = next++;
    erase(gone);
  }
  if (next != by_start_.begin()) {
    auto const before = std::prev(next);
    if (before->first + before->second == e.start) {
      e.start = before->first;
      e.count += before->second;
      erase(before);
    }
  }
  insert(e.start, e.count);
}

bool FreeRuns::remove(Extent e) {
  if (e.count == 0) return true;
  auto it = by_start_.upper_bound(e.start);
  if (it == by_start_.begin()) return false;
  --it;
  std::uint64_t const start = it->first, count = it->second;
  if (e.start - start >= count || e.count > count - (e.start - start)) return false;
  erase(it);
  if (e.start > start) insert(start, e.start - start);
  if (e.end() < start + count) insert(e.end(), start + count - e.end());
  blocks_ -= e.count;
  return true;
}

std::vector<Extent> FreeRuns::take_overlap(Extent e) {
  std::vector<Extent> out;
  auto it = by_start_.upper_bound(e.start);
  if (it != by_start_.begin()) --it;
  for (; it != by_start_.end() && it->first < e.end(); ++it) {
    std::uint64_t const low = std::max(it->first, e.start);
    std::uint64_t const high = std::min(it->first + it->second, e.end());
    if (low < high) out.push_back({low, high - low});
  }
  for (auto const& part : out) remove(part);
  return out;
}

Extent FreeRuns::take(std::uint64_t least, std::uint64_t want, std::uint64_t hint) {
  want = std::max(want, least);
  Extent got{};
  if (hint != 0) {
    if (auto it = by_start_.find(hint); it != by_start_.end() && it->second >= least)
      got = {it->first, it->second};
  }
  if (got.count == 0) {
    auto it = by_count_.lower_bound({want, 0});
    if (it == by_count_.end() && !by_count_.empty()) {
      it = std::prev(by_count_.end());  // nothing fits: takes the longest
      // Of runs of the same length the one with the lowest address: stores fill from the front.
      it = by_count_.lower_bound({it->first, 0});
    }
    if (it != by_count_.end() && it->first >= least) got = {it->second, it->first};
  }
  if (got.count == 0) return {};
  got.count = std::min(got.count, want);
  remove(got);
  return got;
}

Extent FreeRuns::take_splinter(std::uint64_t want) {
  auto it = by_count_.lower_bound({kNodeBlocks, 0});
  if (it == by_count_.begin()) return {};
  --it;
  Extent const got{it->second, std::min(it->first, want)};
  remove(got);
  return got;
}

}  // namespace lcfs
