// SPDX-License-Identifier: Apache-2.0
// How space is taken: reservations that return themselves, a layer's quota, and an owner's chunks.
#pragma once

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <utility>
#include <vector>

#include "engine/space/space_map.h"

namespace lcfs {

// A layer's quota: a limit on the blocks it owns plus those reserved for it.
// Threads: reservations are made and returned under the layer's lock; the numbers may be read
// without it.
class Quota {
 public:
  // kNoSpace with EDQUOT beyond the limit; removals may exceed it.
  Status promise(std::uint64_t n, Urgency urgency);
  void unpromise(std::uint64_t n) { promised_.fetch_sub(n, std::memory_order_relaxed); }
  void set_limit(std::uint64_t blocks) {
    limit_.store(blocks, std::memory_order_relaxed);
  }  // 0: none
  void set_own(std::uint64_t blocks) { own_.store(blocks, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t limit() const { return limit_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t promised() const { return promised_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> limit_{0}, own_{0}, promised_{0};
};

// Blocks reserved for an operation or for dirty pages.  The destructor returns what was not used.
// Thread: that of its owner.
class Reservation {
 public:
  Reservation() = default;
  // quota: that of the layer it is for, if any; it must outlive the reservation.
  static Result<Reservation> make(SpaceMap& space, std::uint64_t blocks, Urgency urgency,
                                  Quota* quota = nullptr) {
    if (quota != nullptr) LCFS_TRY(quota->promise(blocks, urgency));
    if (auto ok = space.promise(blocks, urgency); !ok) {
      if (quota != nullptr) quota->unpromise(blocks);
      return std::move(ok).error();
    }
    Reservation r;
    r.space_ = &space;
    r.quota_ = quota;
    r.left_ = blocks;
    r.urgency_ = urgency;
    return r;
  }
  ~Reservation() { reset(); }
  Reservation(Reservation&& o) noexcept
      : space_(o.space_),
        quota_(o.quota_),
        left_(std::exchange(o.left_, 0)),
        urgency_(o.urgency_) {}
  Reservation& operator=(Reservation&& o) noexcept {
    if (this != &o) {
      reset();
      space_ = o.space_;
      quota_ = o.quota_;
      left_ = std::exchange(o.left_, 0);
      urgency_ = o.urgency_;
    }
    return *this;
  }
  [[nodiscard]] std::uint64_t left() const { return left_; }
  [[nodiscard]] Urgency urgency() const { return urgency_; }
  // `n` of them became real blocks (SpaceMap::allocate has subtracted them).
  void used(std::uint64_t n) {
    n = n < left_ ? n : left_;
    left_ -= n;
    if (quota_ != nullptr) quota_->unpromise(n);
  }
  // Moves n blocks into another reservation.
  void give(Reservation& to, std::uint64_t n) {
    n = n < left_ ? n : left_;
    left_ -= n;
    to.space_ = space_;
    to.quota_ = quota_;
    to.left_ += n;
  }
  void reset() {
    if (left_ != 0) space_->unpromise(left_);
    if (left_ != 0 && quota_ != nullptr) quota_->unpromise(left_);
    left_ = 0;
  }

 private:
  SpaceMap* space_ = nullptr;
  Quota* quota_ = nullptr;
  std::uint64_t left_ = 0;
  Urgency urgency_ = Urgency::kOrdinary;
};

// What one owner (a layer, or the store tree) takes and frees between two checkpoints.
// Not thread safe: its owner's lock protects it.
class OwnerSpace {
 public:
  OwnerSpace(SpaceMap& space, std::uint64_t owner) : space_(&space), owner_(owner) {}
  ~OwnerSpace() { return_chunks(); }
  OwnerSpace(OwnerSpace const&) = delete;
  OwnerSpace& operator=(OwnerSpace const&) = delete;

  [[nodiscard]] std::uint64_t owner() const { return owner_; }
  // Blocks taken from now on belong to another owner.  Nothing may be left to take over
  // (take_allocated, take_freed, take_net).
  void set_owner(std::uint64_t owner) { owner_ = owner; }

  // Who pays for what is taken from now on (nullptr: ordinary free space).
  void set_payer(Reservation* payer) { payer_ = payer; }
  void set_urgency(Urgency u) { urgency_ = u; }

  // kNodeBlocks blocks, next to the last ones if possible.
  Result<std::uint64_t> allocate_node();
  // 1..want blocks of data, as many as possible in one run.
  Result<Extent> allocate_data(std::uint64_t want);
  // Frees blocks that this owner owns and no longer uses.
  void free(Extent e) {
    freed_.push_back(e);
    if (owner_ != 0) space_->note_release();  // the store tree's are what each checkpoint copies
    net_ -= static_cast<std::int64_t>(e.count);
  }
  // The same for blocks that were allocated a short while ago and never written: they return into a
  // chunk or the map at once.  False if they are not among the last ones allocated: then free()
  // them.
  [[nodiscard]] bool unallocate(Extent e);

  // Returns unused rests of chunks to the map.
  void return_chunks();

  // What changed since the last call; not normalized.
  std::vector<Extent> take_allocated() { return std::exchange(allocated_, {}); }
  std::vector<Extent> take_freed() { return std::exchange(freed_, {}); }
  // Blocks taken less blocks freed since the last call.
  std::int64_t take_net() { return std::exchange(net_, 0); }
  [[nodiscard]] bool changed() const { return !allocated_.empty() || !freed_.empty(); }

  static constexpr std::uint64_t kMaxChunk = 16384;  // blocks, 64 MiB

 private:
  Status refill(Extent& chunk, std::uint64_t least, std::uint64_t want);
  void record(Extent e);

  SpaceMap* space_;
  std::uint64_t owner_;
  Reservation* payer_ = nullptr;
  Urgency urgency_ = Urgency::kOrdinary;
  Extent nodes_{}, data_{};  // rests of the chunks
  std::uint64_t next_node_chunk_ = 16 * kNodeBlocks;
  std::uint64_t next_data_chunk_ = 64;
  std::vector<Extent> allocated_, freed_;
  std::int64_t net_ = 0;
};

}  // namespace lcfs
