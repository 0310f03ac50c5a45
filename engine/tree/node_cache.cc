// SPDX-License-Identifier: Apache-2.0
#include "engine/tree/node_cache.h"

#include <algorithm>
#include <cstring>

namespace lcfs {

namespace {
constexpr std::size_t kShards = 16;
std::size_t nodes_per_shard(std::uint64_t bytes) {
  return std::max<std::size_t>(4, bytes / kNodeSize / kShards);
}
}  // namespace

NodeCache::NodeCache(Device& device, std::uint64_t total_blocks, StoreId store,
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
      // A dirty node's own tree finds it by block.  For all others, a stale entry of a reused block
      // must be refused.
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
    return Error::corrupt("pointer to a node outside the store")
        .in(device_.name())
        .at(block * kBlockSize);
  }
  auto node = std::make_shared<Node>(block);
  LCFS_TRY(device_.read(block * kBlockSize, node->bytes.span()));
  if (auto ok = check(*node, ptr, level, exact_level); !ok) {
    failures_.fetch_add(1, std::memory_order_relaxed);
    return std::move(ok).error();
  }
  keep(node);
  return node;
}

Status NodeCache::check(Node const& node, NodePtr const& ptr, std::uint8_t level,
                        bool exact_level) const {
  NodeExpectation expect;
  expect.block = node.block;
  expect.generation = ptr.generation.get();
  expect.checksum = ptr.checksum.get();
  expect.max_level = level;
  expect.exact_level = exact_level;
  expect.store = store_;
  auto ok = check_node(node.bytes.span(), expect, total_blocks_.load(std::memory_order_relaxed));
  if (ok) return {};
  Error e = std::move(ok).error();
  e.path = device_.name();
  e.offset = node.block * kBlockSize + (e.offset == kNoOffset ? 0 : e.offset);
  return e;
}

void NodeCache::keep(NodeRef const& node) {
  auto& s = shard(node->block);
  Lock lock(s.mu);
  auto [it, fresh] = s.entries.try_emplace(node->block);
  if (!fresh) {
    // Another thread has read it meanwhile, or the entry is stale: the newer bytes win.
    if (it->second.pinned) return;
    it->second.node = node;
    s.lru.splice(s.lru.begin(), s.lru, it->second.lru);
    return;
  }
  s.lru.push_front(node->block);
  it->second = {node, s.lru.begin(), false};
  evict(s);
}

void NodeCache::read_ahead(std::span<NodePtr const> nodes, std::uint8_t level) {
  constexpr std::uint64_t
      kMost = 256,
      kGap = 16;  // blocks of one read, and blocks it may read in vain between two nodes
  std::uint64_t const total = total_blocks_.load(std::memory_order_relaxed);
  std::vector<NodePtr> wanted;
  for (auto const& p : nodes) {
    std::uint64_t const block = p.block.get();
    if (block < kReservedBlocks || block > total - kNodeBlocks) continue;
    auto& s = shard(block);
    Lock lock(s.mu);
    if (!s.entries.contains(block)) wanted.push_back(p);
  }
  std::sort(wanted.begin(), wanted.end(),
            [](NodePtr const& x, NodePtr const& y) { return x.block.get() < y.block.get(); });
  AlignedBuffer buffer;
  for (std::size_t i = 0; i < wanted.size();) {
    std::uint64_t const begin = wanted[i].block.get();
    std::uint64_t end = begin + kNodeBlocks;
    std::size_t last = i + 1;
    for (; last < wanted.size() && wanted[last].block.get() <= end + kGap &&
           wanted[last].block.get() + kNodeBlocks - begin <= kMost;
         ++last) {
      end = wanted[last].block.get() + kNodeBlocks;
    }
    bool const several = last - i > 1;
    if (several && buffer.size() == 0) buffer = AlignedBuffer(kMost * kBlockSize);
    if (several &&
        device_.read(begin * kBlockSize, buffer.span().first((end - begin) * kBlockSize))) {
      for (std::size_t k = i; k < last; ++k) {
        auto node = std::make_shared<Node>(wanted[k].block.get());
        std::memcpy(node->bytes.data(), buffer.data() + (node->block - begin) * kBlockSize,
                    kNodeSize);
        if (check(*node, wanted[k], level, true)) keep(node);
      }
    }
    i = last;
  }
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
