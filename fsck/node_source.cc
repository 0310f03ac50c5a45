// SPDX-License-Identifier: Apache-2.0
#include "fsck/node_source.h"

#include <fmt/format.h>

#include <algorithm>

namespace lcfs::fsck {

NodeSource::NodeSource(Device& device, SuperblockInfo const& superblock, std::uint64_t cache_bytes, bool skip_checksum)
    : device_(device),
      total_blocks_(superblock.total_blocks),
      generation_(superblock.generation),
      skip_checksum_(skip_checksum),
      capacity_(std::max<std::size_t>(cache_bytes / kNodeSize, 16)) {
  std::copy_n(superblock.uuid.begin(), store_.size(), store_.begin());
}

Result<NodeSource::Node> NodeSource::get(NodePtr const& ptr, unsigned level) {
  auto const block = ptr.block.get();
  if (block < kReservedBlocks || block > total_blocks_ - kNodeBlocks)
    return Error{Errc::kCorrupt, fmt::format("node at block {}, outside the store", block)};
  auto const at = block * kBlockSize;
  if (ptr.generation.get() > generation_)
    return Error{Errc::kCorrupt,
                 fmt::format("node of generation {}, later than the superblock's {}", ptr.generation.get(), generation_), 0,
                 {}, at + offsetof(NodeHeader, generation)};

  NodeExpectation expect;
  expect.block = block;
  expect.generation = ptr.generation.get();
  expect.checksum = ptr.checksum.get();
  expect.max_level = static_cast<std::uint8_t>(std::min(level, kMaxLevel));
  expect.exact_level = level != kAnyLevel;
  expect.store = store_;
  expect.skip_checksum = skip_checksum_;

  auto const found = by_block_.find(block);
  if (found == by_block_.end()) return read(ptr, expect);
  order_.splice(order_.begin(), order_, found->second);
  auto const& node = found->second->node;
  // The bytes were checked when they were read.  What this pointer says of them is new, but the checksum covers all of it.
  auto const& header = NodeReader(node->data()).header();
  if (header.generation.get() == expect.generation && (skip_checksum_ || header.checksum.get() == expect.checksum) &&
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
  ++nodes_read_;
  if (auto status = check_node(buffer->span(), expect, total_blocks_); !status) {
    auto error = std::move(status).error();
    error.offset += at;
    return error;
  }
  Node node = std::move(buffer);
  order_.push_front({ptr.block.get(), node});
  by_block_[ptr.block.get()] = order_.begin();
  if (order_.size() > capacity_) {
    by_block_.erase(order_.back().block);
    order_.pop_back();
  }
  return node;
}

}  // namespace lcfs::fsck
