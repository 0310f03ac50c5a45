// SPDX-License-Identifier: Apache-2.0
#include "mount/lookups.h"

namespace lcfs::mount {

// The finalizer of MurmurHash3: node ids are nearly consecutive.
std::uint64_t Lookups::mix(NodeId node) {
  node ^= node >> 33;
  node *= 0xff51afd7ed558ccdull;
  node ^= node >> 33;
  node *= 0xc4ceb9fe1a85ec53ull;
  return node ^ node >> 33;
}

std::size_t Lookups::Shard::find(NodeId node) const {
  std::size_t const mask = table.size() - 1;
  std::size_t at = mix(node) & mask;
  while (table[at].node != 0 && table[at].node != node) at = (at + 1) & mask;
  return at;
}

void Lookups::Shard::resize(std::size_t size) {
  std::vector<Entry> old(size);
  old.swap(table);
  for (auto const& entry : old) {
    if (entry.node != 0) table[find(entry.node)] = entry;
  }
}

bool Lookups::add(NodeId node) {
  Shard& s = shard(node);
  Lock lock(s.mu);
  if (s.table.empty()) s.table.resize(16);
  std::size_t at = s.find(node);
  if (s.table[at].node == node) {
    ++s.table[at].count;
    return false;
  }
  if ((s.used + 1) * 4 > s.table.size() * 3) {
    s.resize(s.table.size() * 2);
    at = s.find(node);
  }
  s.table[at] = {node, 1};
  ++s.used;
  return true;
}

bool Lookups::drop(NodeId node, std::uint64_t count) {
  Shard& s = shard(node);
  Lock lock(s.mu);
  if (s.table.empty()) return false;
  std::size_t const mask = s.table.size() - 1;
  std::size_t hole = s.find(node);
  if (s.table[hole].node != node) return false;
  if (s.table[hole].count > count) {
    s.table[hole].count -= count;
    return false;
  }
  // An entry after the hole that belongs at or before it moves into it.
  for (std::size_t at = (hole + 1) & mask; s.table[at].node != 0; at = (at + 1) & mask) {
    std::size_t const home = mix(s.table[at].node) & mask;
    if (((at - home) & mask) >= ((at - hole) & mask)) {
      s.table[hole] = s.table[at];
      hole = at;
    }
  }
  s.table[hole] = {};
  --s.used;
  if (s.table.size() > 64 && s.used * 8 < s.table.size()) s.resize(s.table.size() / 2);
  return true;
}

std::vector<NodeId> Lookups::in_slot(std::uint32_t slot, std::size_t most) const {
  std::vector<NodeId> out;
  for (auto const& s : shards_) {
    Lock lock(s.mu);
    for (auto const& entry : s.table) {
      if (entry.node != 0 && slot_in(entry.node) == slot && out.size() < most)
        out.push_back(entry.node);
    }
  }
  return out;
}

std::uint64_t Lookups::size() const {
  std::uint64_t sum = 0;
  for (auto const& s : shards_) {
    Lock lock(s.mu);
    sum += s.used;
  }
  return sum;
}

std::uint64_t Lookups::bytes() const {
  std::uint64_t sum = 0;
  for (auto const& s : shards_) {
    Lock lock(s.mu);
    sum += s.table.size() * sizeof(Entry);
  }
  return sum;
}

}  // namespace lcfs::mount
