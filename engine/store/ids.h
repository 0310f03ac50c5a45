// SPDX-License-Identifier: Apache-2.0
// Numbers that are given out once and never again: ids of layers and images, and inode numbers.
// Threads: any function from any thread.
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/types.h"

namespace lcfs {

class Ids {
 public:
  // The next number of either kind.
  Ids(std::uint64_t next_id, Inode next_inode) : next_id_(next_id), next_inode_(next_inode) {}

  // The first of n numbers that are the caller's now.  Layers and images share one sequence; a
  // layer's id is greater than its parent's.
  std::uint64_t take(std::uint64_t n = 1) { return next_id_.fetch_add(n); }
  Inode take_inodes(std::uint64_t n = 1) { return next_inode_.fetch_add(n); }

  // For the superblock.
  [[nodiscard]] std::uint64_t next_id() const { return next_id_.load(); }
  [[nodiscard]] Inode next_inode() const { return next_inode_.load(); }

 private:
  std::atomic<std::uint64_t> next_id_;
  std::atomic<Inode> next_inode_;
};

}  // namespace lcfs
