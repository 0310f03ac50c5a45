// SPDX-License-Identifier: Apache-2.0
// The records of one inode after the other, as a walk brings them: do they parse, do they stand
// where lookups search them, and does the inode record agree with the rest?  What ties inodes
// together goes to Links.
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

namespace lcfs::fsck {

struct InodeHooks {
  std::function<void(Code code, Severity severity, std::uint64_t inode, std::uint64_t at,
                     std::string text)>
      say{};
  std::function<void(Record const& record, ExtentInfo const& extent)> on_extent{};
};

class InodeCheck {
 public:
  InodeCheck(std::array<std::uint8_t, 16> const& seed, std::uint64_t total_blocks, Links& links,
             InodeHooks hooks)
      : seed_(seed), total_blocks_(total_blocks), links_(links), hooks_(std::move(hooks)) {}

  void take(Record const& record);
  void finish();  // no more records
  // The entries of the directory in hand are not taken one by one: so many it has.
  void skip_entries(std::uint64_t entries, std::uint64_t subdirectories) {
    now_.entries += entries;
    now_.subdirectories += subdirectories;
  }
  void gap() { now_.gap = true; }  // records are missing from here on

  [[nodiscard]] std::uint64_t inodes() const { return inodes_; }
  [[nodiscard]] std::uint64_t last_inode() const { return last_inode_; }  // the greatest number met

 private:
  // Names whose hash bits are the same stand side by side; here are those of the last such group.
  struct Group {
    std::uint64_t base = ~0ull;
    std::vector<std::string> names{};
    bool add(std::uint64_t key_base, std::string name);  // false: it is there already
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
  void take_inode(Record const& r);
  void take_parent(Record const& r);
  void take_entry(Record const& r);
  void take_xattr(Record const& r);
  void take_inline(Record const& r);
  void take_extent(Record const& r);
  void end_xattr();
  bool unique(Record const& r, std::uint64_t base, std::string name);
  [[nodiscard]] bool is(std::uint32_t type) const;  // true as well if the type is not known
  void say(Code code, std::uint64_t at, std::string text, Severity severity = Severity::kError);
  void bad(Record const& r, Error const& error);

  std::array<std::uint8_t, 16> seed_;
  std::uint64_t total_blocks_;
  Links& links_;
  InodeHooks hooks_;
  State now_{};
  std::uint64_t inodes_ = 0, last_inode_ = 0;
};

}  // namespace lcfs::fsck
