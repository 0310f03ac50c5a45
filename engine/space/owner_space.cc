// SPDX-License-Identifier: Apache-2.0
#include "engine/space/owner_space.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

namespace lcfs {

Status Quota::promise(std::uint64_t n, Urgency urgency) {
  std::uint64_t const before = promised_.fetch_add(n, std::memory_order_relaxed);
  std::uint64_t const limit = limit_.load(std::memory_order_relaxed),
                      own = own_.load(std::memory_order_relaxed);
  if (limit == 0 || urgency != Urgency::kOrdinary || n == 0 || own + before + n <= limit) return {};
  promised_.fetch_sub(n, std::memory_order_relaxed);
  return Error::no_space(
             fmt::format("layer quota exceeded: {} KiB needed; {} KiB of {} KiB used, {} KiB "
                         "reserved",
                         n * 4, own * 4, limit * 4, before * 4))
      .as(EDQUOT);
}

void OwnerSpace::record(Extent e) {
  net_ += static_cast<std::int64_t>(e.count);
  if (!allocated_.empty() && allocated_.back().end() == e.start) {
    allocated_.back().count += e.count;
  } else {
    allocated_.push_back(e);
  }
}

Status OwnerSpace::refill(Extent& chunk, std::uint64_t least, std::uint64_t want) {
  std::uint64_t const hint = chunk.start;  // one behind the last block of the chunk before
  if (chunk.count != 0) space_->give_back(chunk);
  chunk = {hint, 0};
  // A chunk is never more than a small part of the free space: contiguity must not cost others
  // their space.
  constexpr std::uint64_t kShare = 32;
  want = std::clamp(want, least, std::max(least, space_->counts().free / kShare));
  std::uint64_t const paid = payer_ != nullptr ? std::min(least, payer_->left()) : 0;
  bool const urgent = urgency_ != Urgency::kOrdinary ||
                      (payer_ != nullptr && payer_->urgency() != Urgency::kOrdinary);
  auto got =
      space_->allocate(least, want, paid, hint, urgent ? Urgency::kEmergency : Urgency::kOrdinary);
  if (!got) return std::move(got).error();
  if (payer_ != nullptr) payer_->used(paid);
  chunk = *got;
  return {};
}

Result<std::uint64_t> OwnerSpace::allocate_node() {
  if (nodes_.count < kNodeBlocks) {
    LCFS_TRY(refill(nodes_, kNodeBlocks, next_node_chunk_));
    next_node_chunk_ = std::min<std::uint64_t>(next_node_chunk_ * 2, 1024);
  } else if (payer_ != nullptr) {
    // Chunk blocks were free space when the chunk was cut: what is reserved for this node is not
    // needed any more.
    std::uint64_t const n = std::min<std::uint64_t>(kNodeBlocks, payer_->left());
    payer_->used(n);
    space_->unpromise(n);
  }
  std::uint64_t const block = nodes_.start;
  nodes_.start += kNodeBlocks;
  nodes_.count -= kNodeBlocks;
  record({block, kNodeBlocks});
  return block;
}

Result<Extent> OwnerSpace::allocate_data(std::uint64_t want) {
  if (data_.count == 0 || (data_.count < want && data_.count < next_data_chunk_ / 8)) {
    std::uint64_t const least = 1;
    // A file that is larger than a chunk gets a run of its own size; smaller ones share chunks.
    LCFS_TRY(refill(data_, least, std::max(want, next_data_chunk_)));
    next_data_chunk_ = std::min(next_data_chunk_ * 2, kMaxChunk);
    std::uint64_t const n = std::min(want, data_.count);
    if (payer_ != nullptr && n > least) {
      std::uint64_t const paid = std::min(n - least, payer_->left());
      payer_->used(paid);
      space_->unpromise(paid);
    }
  } else if (payer_ != nullptr) {
    std::uint64_t const n = std::min({want, data_.count, payer_->left()});
    payer_->used(n);
    space_->unpromise(n);
  }
  Extent const e{data_.start, std::min(want, data_.count)};
  data_.start += e.count;
  data_.count -= e.count;
  record(e);
  return e;
}

bool OwnerSpace::unallocate(Extent e) {
  constexpr std::size_t kLookBack = 64;  // keeps it O(1): mostly the blocks were taken just before
  std::size_t const from = allocated_.size() > kLookBack ? allocated_.size() - kLookBack : 0;
  for (std::size_t i = allocated_.size(); i-- > from;) {
    auto& a = allocated_[i];
    if (e.start < a.start || e.end() > a.end()) continue;
    net_ -= static_cast<std::int64_t>(e.count);
    Extent const tail{e.end(), a.end() - e.end()};
    a.count = e.start - a.start;
    if (a.count == 0) allocated_.erase(allocated_.begin() + static_cast<std::ptrdiff_t>(i));
    if (tail.count != 0) allocated_.push_back(tail);
    for (auto* chunk : {&nodes_, &data_}) {
      if (chunk->count != 0 && chunk->start == e.end()) {
        *chunk = {e.start, chunk->count + e.count};
        return true;
      }
    }
    space_->give_back(e);
    return true;
  }
  return false;
}

void OwnerSpace::return_chunks() {
  if (nodes_.count != 0) space_->give_back(nodes_);
  if (data_.count != 0) space_->give_back(data_);
  // Where they ended stays as a hint: the next chunk continues there if it is still free.
  nodes_.count = 0;
  data_.count = 0;
  next_node_chunk_ = 16 * kNodeBlocks;
  next_data_chunk_ = 64;
}

}  // namespace lcfs
