// SPDX-License-Identifier: Apache-2.0
// Checks the directory structure of one layer: every entry has its back reference and vice versa,
// link counts match the entries, and every directory is reachable from the root.  The walk of the
// tree adds what it finds; check() compares at the end.  Memory: 40 bytes per entry and per back
// reference, 40 per inode; freed with the object.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/layout.h"
#include "fsck/finding.h"
#include "fsck/vocabulary.h"

namespace lcfs::fsck {

struct InodeSummary {
  std::uint64_t inode = 0;
  std::uint64_t at = 0;  // device byte of its record
  std::uint64_t size = 0;
  std::uint32_t nlink = 0;
  std::uint32_t mode = 0;
};

class Links {
 public:
  explicit Links(std::array<std::uint8_t, 16> const& seed) : seed_(seed) {}

  // In ascending order of inode.
  void add_inode(InodeSummary const& inode) { inodes_.push_back(inode); }
  void add_orphan(std::uint64_t inode, std::uint64_t at) { orphans_.push_back({inode, at}); }
  void add_entry(std::uint64_t directory, std::uint64_t child, std::uint8_t type,
                 std::string_view name, std::uint64_t key);
  void add_parent(std::uint64_t child, std::uint64_t directory, std::string_view name,
                  std::uint64_t key);

  // Reports a problem of the record at `key`; the caller finds its offset, name and path.
  using Tell =
      std::function<void(Code code, Key const& key, std::uint64_t about_inode, std::string text)>;
  void check(std::uint64_t root, Tell const& tell);

 private:
  struct Link {
    std::uint64_t child = 0, directory = 0;
    std::uint64_t name = 0;  // hash of all its bytes
    std::uint64_t key = 0;   // offset in the record's key
    std::uint8_t type = 0;
  };
  struct Orphan {
    std::uint64_t inode = 0, at = 0;
  };
  void compare(Tell const& tell);
  void check_inode(InodeSummary const& i, std::span<Link const> entries, std::uint64_t root,
                   Tell const& tell);
  void check_orphans(Tell const& tell);
  void check_reachable(std::uint64_t root, Tell const& tell);
  [[nodiscard]] std::size_t index_of(std::uint64_t inode) const;  // inodes_.size(): no such inode
  [[nodiscard]] bool is_orphan(std::uint64_t inode) const;

  std::array<std::uint8_t, 16> seed_;
  std::vector<InodeSummary> inodes_;
  std::vector<Orphan> orphans_;
  std::vector<Link> entries_;  // from directories down
  std::vector<Link> parents_;  // from inodes up
};

}  // namespace lcfs::fsck
