// SPDX-License-Identifier: Apache-2.0
#include "engine/node_cache.h"

#include <algorithm>

namespace lcfs {

namespace {
constexpr std::size_t kShards = 16;
std::size_t nodes_per_shard(std::uint64_t bytes) { return std::max<std::size_t>(4, bytes / kNodeSize / kShards); }
}  // namespace

NodeCache::NodeCache(Device& device, std::uint64_t total_blocks, std::array<std::uint8_t, 8> store,
                     std::uint64_t capacity_bytes)
    : device_(device),
      total_blocks_(total_blocks),
      store_(store),
      per_shard_(nodes_per_shard(capacity_bytes)) {
  static_assert(std::tuple_size_v<decltype(shards_)> == kShards);
}

Result<NodeRef> NodeCache::get(NodePtr const& ptr, std::uint8_t level, bool exact_level) {
  std::uint64_t const block = ptr.block.get();
  auto& s = shard(block);
  {
    Lock lock(s.mu);
    if (auto it = s.entries.find(block); it != s.entries.end()) {
      auto const& h = it->second.node->read().header();
      // A dirty node's own tree finds it by block; for all others a stale entry of a reused block must not pass.
      if (h.generation.get() == ptr.generation.get() && (!exact_level || h.level == level)) {
        ++s.hits;
        if (!it->second.pinned) s.lru.splice(s.lru.begin(), s.lru, it->second.lru);
        return it->second.node;
      }
    }
    ++s.misses;
  }
  std::uint64_t const total = total_blocks_.load(std::memory_order_relaxed);
  if (block < kReservedBlocks || block > total - kNodeBlocks) {
    return Error{Errc::kCorrupt, "pointer to a node outside the store", 0, device_.name(), block * kBlockSize};
  }
  auto node = std::make_shared<Node>(block);
  LCFS_TRY(device_.read(block * kBlockSize, node->bytes.span()));
  NodeExpectation expect;
  expect.block = block;
  expect.generation = ptr.generation.get();
  expect.checksum = ptr.checksum.get();
  expect.max_level = level;
  expect.exact_level = exact_level;
  expect.store = store_;
  if (auto ok = check_node(node->bytes.span(), expect, total); !ok) {
    failures_.fetch_add(1, std::memory_order_relaxed);
    Error e = std::move(ok).error();
    e.path = device_.name();
    e.offset = block * kBlockSize + (e.offset == kNoOffset ? 0 : e.offset);
    return e;
  }
  Lock lock(s.mu);
  auto [it, fresh] = s.entries.try_emplace(block);
  if (!fresh) {
    // Another thread read it meanwhile, or the entry is a stale one: the newer bytes win.
    if (it->second.pinned) return node;
    it->second.node = node;
    s.lru.splice(s.lru.begin(), s.lru, it->second.lru);
    return node;
  }
  s.lru.push_front(block);
  it->second = {node, s.lru.begin(), false};
  evict(s);
  return node;
}

NodeRef NodeCache::create(std::uint64_t block) {
  auto node = std::make_shared<Node>(block);
  node->dirty = true;
  auto& s = shard(block);
  Lock lock(s.mu);
  auto [it, fresh] = s.entries.try_emplace(block);
  if (!fresh && !it->second.pinned) s.lru.erase(it->second.lru);
  it->second = {node, s.lru.end(), true};
  return node;
}

void NodeCache::forget(std::uint64_t block) {
  auto& s = shard(block);
  Lock lock(s.mu);
  auto it = s.entries.find(block);
  if (it == s.entries.end()) return;
  if (!it->second.pinned) s.lru.erase(it->second.lru);
  s.entries.erase(it);
}

void NodeCache::unpin(std::uint64_t block) {
  auto& s = shard(block);
  Lock lock(s.mu);
  auto it = s.entries.find(block);
  if (it == s.entries.end() || !it->second.pinned || it->second.node->dirty) return;
  s.lru.push_front(block);
  it->second.lru = s.lru.begin();
  it->second.pinned = false;
  evict(s);
}

void NodeCache::evict(Shard& s) {
  while (s.lru.size() > per_shard_.load(std::memory_order_relaxed)) {
    s.entries.erase(s.lru.back());
    s.lru.pop_back();
  }
}

void NodeCache::set_capacity(std::uint64_t bytes) {
  per_shard_.store(nodes_per_shard(bytes), std::memory_order_relaxed);
  for (auto& s : shards_) {
    Lock lock(s.mu);
    evict(s);
  }
}

void NodeCache::drop_clean() {
  for (auto& s : shards_) {
    Lock lock(s.mu);
    for (std::uint64_t const block : s.lru) s.entries.erase(block);
    s.lru.clear();
  }
}

NodeCache::Stats NodeCache::stats() const {
  Stats out;
  out.limit = per_shard_.load(std::memory_order_relaxed) * kShards * kNodeSize;
  out.failures = failures_.load(std::memory_order_relaxed);
  for (auto const& s : shards_) {
    Lock lock(s.mu);
    out.hits += s.hits;
    out.misses += s.misses;
    out.nodes += s.entries.size();
  }
  return out;
}

}  // namespace lcfs
