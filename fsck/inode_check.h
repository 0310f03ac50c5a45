// SPDX-License-Identifier: Apache-2.0
// Checks the records of one inode after the other, in the order of a walk: that they parse, that
// lookups find them, and that the inode record agrees with the others.  Relations between inodes go
// to Links.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "format/records.h"
#include "fsck/finding.h"
#include "fsck/links.h"
#include "fsck/tree_walk.h"
#include "fsck/vocabulary.h"

namespace lcfs::fsck {

struct InodeHooks {
  std::function<void(Code code, Severity severity, std::uint64_t inode, std::uint64_t at,
                     std::string text)>
      say{};
  std::function<void(WalkedRecord const& record, ExtentInfo const& extent)> on_extent{};
};

class InodeCheck {
 public:
  InodeCheck(std::array<std::uint8_t, 16> const& seed, std::uint64_t total_blocks, Links& links,
             InodeHooks hooks)
      : seed_(seed), total_blocks_(total_blocks), links_(links), hooks_(std::move(hooks)) {}

  void take(WalkedRecord const& record);
  void finish();  // no more records
  // Sets the number of entries of the current directory, if they are not passed one by one.
  void skip_entries(std::uint64_t entries, std::uint64_t subdirectories) {
    now_.entries += entries;
    now_.subdirectories += subdirectories;
  }
  void gap() { now_.gap = true; }  // records are missing from here on

  [[nodiscard]] std::uint64_t inodes() const { return inodes_; }
  [[nodiscard]] std::uint64_t last_inode() const {
    return last_inode_;
  }  // the greatest number seen

 private:
  // Names with the same hash bits are adjacent; these are the names of the current group.
  struct Group {
    std::uint64_t base = ~0ull;
    std::vector<std::string> names{};
    bool add(std::uint64_t key_base, std::string name);  // false: it is a duplicate
  };
  struct State {
    std::uint64_t inode = 0;
    std::uint64_t at = 0;  // of the inode record, or of the first record
    bool has_record = false;
    bool broken = false;  // its inode record did not parse
    bool gap = false;     // some of its records may be missing
    InodeInfo info{};
    std::uint64_t entries = 0, subdirectories = 0;
    std::uint64_t extent_blocks = 0, extent_end = 0;
    std::uint64_t inline_at = 0;
    bool has_inline = false;
    std::uint64_t xattr_next = 0, xattr_at = 0;
    std::uint32_t xattr_left = 0;
    Group group{};
    std::uint8_t group_kind = 0;
  };

  void close();
  void take_inode(WalkedRecord const& r);
  void take_parent(WalkedRecord const& r);
  void take_entry(WalkedRecord const& r);
  void take_xattr(WalkedRecord const& r);
  void take_inline(WalkedRecord const& r);
  void take_extent(WalkedRecord const& r);
  void end_xattr();
  bool unique(WalkedRecord const& r, std::uint64_t base, std::string name);
  [[nodiscard]] bool is(std::uint32_t type) const;  // true as well if the type is not known
  void say(Code code, std::uint64_t at, std::string text, Severity severity = Severity::kError);
  void bad(WalkedRecord const& r, Error const& error);

  std::array<std::uint8_t, 16> seed_;
  std::uint64_t total_blocks_;
  Links& links_;
  InodeHooks hooks_;
  State now_{};
  std::uint64_t inodes_ = 0, last_inode_ = 0;
};

}  // namespace lcfs::fsck
