// SPDX-License-Identifier: Apache-2.0
// Which stretch of blocks is whose, while a repair sorts that out; and where nobody's blocks are.
// Memory: about 64 bytes per stretch of blocks of one owner.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace lcfs::fsck {

class BlockMap {
 public:
  // Gives [start, start + count) to `owner`.  False, and nothing changed, if any of it is
  // somebody's already.
  bool claim(std::uint64_t start, std::uint64_t count, std::uint64_t owner);
  // The same for what is nobody's yet of the range; the rest stays whose it is.
  void claim_rest(std::uint64_t start, std::uint64_t count, std::uint64_t owner);
  [[nodiscard]] bool is_free(std::uint64_t start, std::uint64_t count) const;
  // Does `owner` have all of it?
  [[nodiscard]] bool owns(std::uint64_t owner, std::uint64_t start, std::uint64_t count) const;

  struct Stretch {
    std::uint64_t end = 0, owner = 0;
  };
  [[nodiscard]] std::map<std::uint64_t, Stretch> const& stretches() const {
    return map_;
  }  // by start

 private:
  void put(std::uint64_t start, std::uint64_t end, std::uint64_t owner);  // is free
  [[nodiscard]] std::map<std::uint64_t, Stretch>::const_iterator at_or_before(
      std::uint64_t block) const;

  std::map<std::uint64_t, Stretch> map_;
};

// Hands out what is free in a map, from the front of the store.
class FreeBlocks {
 public:
  // [first, end) of the store may be handed out, but for what `used` has; it must not change
  // meanwhile.
  FreeBlocks(BlockMap const& used, std::uint64_t first, std::uint64_t end)
      : used_(used), next_(first), end_(end) {}
  std::optional<std::uint64_t> take(
      std::uint64_t count);  // side by side; nothing: there are none left

 private:
  BlockMap const& used_;
  std::uint64_t next_, end_;
};

}  // namespace lcfs::fsck
