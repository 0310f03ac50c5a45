// SPDX-License-Identifier: Apache-2.0
// The owner of each stretch of blocks during a repair, and the free blocks.
// Memory: about 64 bytes per stretch of blocks of one owner.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace lcfs::fsck {

class BlockMap {
 public:
  // Gives [start, start + count) to `owner`.  False, without a change, if any of it has
  // an owner already.
  bool claim(std::uint64_t start, std::uint64_t count, std::uint64_t owner);
  // Gives the blocks of the range without an owner to `owner`; the others keep theirs.
  void claim_rest(std::uint64_t start, std::uint64_t count, std::uint64_t owner);
  [[nodiscard]] bool is_free(std::uint64_t start, std::uint64_t count) const;
  // True if `owner` has all of it.
  [[nodiscard]] bool owns(std::uint64_t owner, std::uint64_t start, std::uint64_t count) const;

  struct Stretch {
    std::uint64_t end = 0, owner = 0;
  };
  [[nodiscard]] std::map<std::uint64_t, Stretch> const& stretches() const {
    return map_;
  }  // by start

 private:
  void put(std::uint64_t start, std::uint64_t end, std::uint64_t owner);  // the range is free
  [[nodiscard]] std::map<std::uint64_t, Stretch>::const_iterator at_or_before(
      std::uint64_t block) const;

  std::map<std::uint64_t, Stretch> map_;
};

// Allocates the free blocks of a map, from the front of the store.
class FreeBlocks {
 public:
  // Allocates from [first, end), except the blocks that `used` has.  `used` must not change
  // meanwhile.
  FreeBlocks(BlockMap const& used, std::uint64_t first, std::uint64_t end)
      : used_(used), next_(first), end_(end) {}
  std::optional<std::uint64_t> take(std::uint64_t count);  // contiguous; nothing: none left

 private:
  BlockMap const& used_;
  std::uint64_t next_, end_;
};

}  // namespace lcfs::fsck
