// SPDX-License-Identifier: Apache-2.0
#include "fsck/block_map.h"

#include <algorithm>

namespace lcfs::fsck {

std::map<std::uint64_t, BlockMap::Stretch>::const_iterator BlockMap::at_or_before(
    std::uint64_t block) const {
  auto it = map_.upper_bound(block);
  if (it != map_.begin()) --it;
  return it;
}

bool BlockMap::is_free(std::uint64_t start, std::uint64_t count) const {
  for (auto it = at_or_before(start); it != map_.end() && it->first < start + count; ++it)
    if (it->second.end > start) return false;
  return true;
}

bool BlockMap::owns(std::uint64_t owner, std::uint64_t start, std::uint64_t count) const {
  auto at = start;
  for (auto it = at_or_before(start); it != map_.end() && it->first <= at && at < start + count;
       ++it) {
    if (it->second.end <= at) continue;
    if (it->second.owner != owner) return false;
    at = it->second.end;
  }
  return at >= start + count;
}

void BlockMap::put(std::uint64_t start, std::uint64_t end, std::uint64_t owner) {
  auto next = map_.lower_bound(start);
  if (next != map_.end() && next->first == end && next->second.owner == owner) {
    end = next->second.end;
    next = map_.erase(next);
  }
  if (next != map_.begin()) {
    auto& before = std::prev(next)->second;
    if (before.end == start && before.owner == owner) {
      before.end = end;
      return;
    }
  }
  map_.emplace_hint(next, start, Stretch{end, owner});
}

bool BlockMap::claim(std::uint64_t start, std::uint64_t count, std::uint64_t owner) {
  if (count == 0 || !is_free(start, count)) return count == 0;
  put(start, start + count, owner);
  return true;
}

void BlockMap::claim_rest(std::uint64_t start, std::uint64_t count, std::uint64_t owner) {
  auto const end = start + count;
  while (start < end) {
    auto it = map_.upper_bound(start);
    auto const stop = std::min(end, it == map_.end() ? end : it->first);
    if (it != map_.begin() && std::prev(it)->second.end > start) {
      start = std::prev(it)->second.end;
      continue;
    }
    put(start, stop, owner);
    start = stop;
  }
}

std::optional<std::uint64_t> FreeBlocks::take(std::uint64_t count) {
  for (;;) {
    if (next_ > end_ || count > end_ - next_) return std::nullopt;
    auto const& map = used_.stretches();
    auto it = map.upper_bound(next_);
    if (it != map.begin() && std::prev(it)->second.end > next_) {
      next_ = std::prev(it)->second.end;
      continue;
    }
    if (it != map.end() && it->first - next_ < count) {
      next_ = it->second.end;
      continue;
    }
    auto const at = next_;
    next_ += count;
    return at;
  }
}

}  // namespace lcfs::fsck
