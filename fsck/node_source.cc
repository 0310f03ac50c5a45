// SPDX-License-Identifier: Apache-2.0
#include "fsck/node_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

namespace lcfs::fsck {

NodeSource::NodeSource(Device& device, SuperblockInfo const& superblock, std::uint64_t cache_bytes,
                       bool skip_checksum)
    : device_(device),
      total_blocks_(superblock.total_blocks),
      generation_(superblock.generation),
      store_(superblock.uuid),
      skip_checksum_(skip_checksum),
      capacity_(std::max<std::size_t>(cache_bytes / kNodeSize, 16)) {}

NodeExpectation NodeSource::expectation(NodePtr const& ptr, unsigned level) const {
  NodeExpectation expect;
  expect.block = ptr.block.get();
  expect.generation = ptr.generation.get();
  expect.checksum = ptr.checksum.get();
  expect.max_level = static_cast<std::uint8_t>(std::min(level, kMaxLevel));
  expect.exact_level = level != kAnyLevel;
  expect.store = store_;
  expect.skip_checksum = skip_checksum_;
  return expect;
}

Result<NodeSource::Node> NodeSource::get(NodePtr const& ptr, unsigned level) {
  auto const block = ptr.block.get();
  if (!inside(block))
    return Error::corrupt(fmt::format("node at block {}, outside the store", block));
  auto const at = block * kBlockSize;
  if (ptr.generation.get() > generation_)
    return Error::corrupt(fmt::format("node of generation {}, later than the superblock's {}",
                                      ptr.generation.get(), generation_))
        .at(at + offsetof(NodeHeader, generation));

  auto const expect = expectation(ptr, level);
  Node node;
  {
    std::lock_guard const lock(mutex_);
    if (auto const found = by_block_.find(block); found != by_block_.end()) {
      order_.splice(order_.begin(), order_, found->second);
      node = found->second->node;
    }
  }
  if (node == nullptr) return read(ptr, expect);
  // The bytes were checked when they were read.  This pointer has new expectations, but the
  // checksum covers all of them.
  auto const& header = NodeReader(node->data()).header();
  if (header.generation.get() == expect.generation &&
      (skip_checksum_ || header.checksum.get() == expect.checksum) &&
      (expect.exact_level ? header.level == expect.max_level : header.level <= expect.max_level))
    return node;
  auto status = check_node(node->span(), expect, total_blocks_);
  if (status) return node;
  auto error = std::move(status).error();
  error.offset += at;
  return error;
}

Result<NodeSource::Node> NodeSource::read(NodePtr const& ptr, NodeExpectation const& expect) {
  auto const at = ptr.block.get() * kBlockSize;
  auto buffer = std::make_shared<AlignedBuffer>(kNodeSize);
  if (auto status = device_.read(at, buffer->span()); !status) {
    auto error = std::move(status).error();
    error.offset = at;
    return error;
  }
  if (auto status = check_node(buffer->span(), expect, total_blocks_); !status) {
    auto error = std::move(status).error();
    error.offset += at;
    return error;
  }
  Node node = std::move(buffer);
  std::lock_guard const lock(mutex_);
  keep(ptr.block.get(), node);
  return node;
}

void NodeSource::keep(std::uint64_t block, Node node) {
  ++nodes_read_;
  auto const [place, is_new] = by_block_.try_emplace(block);
  if (!is_new)
    order_.erase(place->second);  // another thread was faster, or it has another generation
  order_.push_front({block, std::move(node)});
  place->second = order_.begin();
  if (order_.size() > capacity_) {
    by_block_.erase(order_.back().block);
    order_.pop_back();
  }
}

std::size_t NodeSource::ahead(std::span<NodePtr const> ptrs, unsigned level) {
  std::vector<NodePtr> wanted;
  std::size_t looked_at = 0;
  std::unique_lock lock(mutex_);
  for (; looked_at < ptrs.size() && looked_at < capacity_ / 2; ++looked_at) {
    auto const& p = ptrs[looked_at];
    if (inside(p.block.get()) && p.generation.get() <= generation_ &&
        !by_block_.contains(p.block.get()))
      wanted.push_back(p);
  }
  lock.unlock();
  if (wanted.size() < 2) return looked_at;
  auto const block = [](NodePtr const& p) { return p.block.get(); };
  std::sort(wanted.begin(), wanted.end(),
            [&](NodePtr const& a, NodePtr const& b) { return block(a) < block(b); });
  wanted.erase(
      std::unique(wanted.begin(), wanted.end(),
                  [&](NodePtr const& a, NodePtr const& b) { return block(a) == block(b); }),
      wanted.end());
  std::vector<Read> reads;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    auto const start = block(wanted[i]), end = start + kNodeBlocks;
    bool const near = !reads.empty() && start <= reads.back().end + kGapNodes * kNodeBlocks &&
                      end - reads.back().block <= kReadNodes * kNodeBlocks;
    if (!near) reads.push_back({start, end, i, i});
    reads.back().end = end;
    reads.back().to = i + 1;
  }
  std::vector<Node> nodes(wanted.size());
  read_many(reads, wanted, level, nodes);
  lock.lock();
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i] != nullptr) keep(block(wanted[i]), std::move(nodes[i]));
  }
  return looked_at;
}

void NodeSource::read_many(std::span<Read const> reads, std::span<NodePtr const> wanted,
                           unsigned level, std::span<Node> into) {
  std::atomic<std::size_t> next{0};
  auto const work = [&] {
    AlignedBuffer buffer(kReadNodes * kNodeSize);
    for (auto r = next++; r < reads.size(); r = next++) {
      auto const& read = reads[r];
      if (!device_.read(read.block * kBlockSize,
                        buffer.span().first((read.end - read.block) * kBlockSize)))
        continue;
      for (auto i = read.from; i < read.to; ++i) {
        auto node = std::make_shared<AlignedBuffer>(kNodeSize);
        std::memcpy(node->data(), buffer.data() + (wanted[i].block.get() - read.block) * kBlockSize,
                    kNodeSize);
        if (check_node(node->span(), expectation(wanted[i], level), total_blocks_))
          into[i] = std::move(node);
      }
    }
  };
  std::vector<std::thread> threads;
  for (std::size_t helpers = std::min(kReaders - 1, reads.size() / 4); helpers > 0; --helpers)
    threads.emplace_back(work);
  work();
  for (auto& t : threads) t.join();
}

}  // namespace lcfs::fsck
