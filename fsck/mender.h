// SPDX-License-Identifier: Apache-2.0
// Makes the records of a damaged layer consistent: which stay, which go, which are added.
//
// Three passes over the same records: take() gets each of them, then plan() decides; name() gets
// them again for the names that plan() needs or that are reported to users (only if requested);
// then mend() returns each record that stays, and additions() those to insert.
//
// - A record that does not parse, or that no lookup finds, is removed; entries and back references
//   move to the right key.
// - A directory whose inode record is lost is made again, owned by root with mode 0700, if any
//   record refers to it.  A lost entry is restored from the back reference, and vice versa.
// - A file that lost data, its target or its inode record is removed, because the rest would read
//   as zeroes.
// - An inode without a name, and a directory inside itself, is moved to lost+found of the layer as
//   "#INODE".
// - Link counts, directory sizes and block counts are recomputed.
// Memory: about 90 bytes per inode and 50 per entry and per back reference of one layer, and the
// changes.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "format/records.h"
#include "fsck/tree_walk.h"
#include "fsck/vocabulary.h"

namespace lcfs::fsck {

struct MendContext {
  std::array<std::uint8_t, 16> seed{};
  std::uint64_t total_blocks = 0;
  std::uint64_t root = 0;  // inode of the root directory
  Timestamp now{};         // time of new inodes
  std::function<std::uint64_t()>
      lost_found_inode{};  // number for a new lost+found; the same every time for a tree
  std::function<bool(std::uint64_t inode)>
      condemned{};  // files to remove whatever their records contain
  std::function<std::string(std::uint64_t inode)> path{};
  std::function<void(std::string text)>
      lost{};  // gets everything that users will miss or find elsewhere
};

class Mender {
 public:
  explicit Mender(MendContext context) : c_(std::move(context)) {}

  void take(WalkedRecord const& r);
  // complete: damage hides no record.
  void plan(bool complete);
  [[nodiscard]] bool wants_names() const { return !wanted_.empty() || !parting_.empty(); }
  void name(WalkedRecord const& r);
  void finish_plan();  // after the names

  // Adds an inode without a name that keeps `extents` for child layers, which inherit them.
  void add_keeper(std::uint64_t inode, std::vector<ExtentInfo> const& extents);

  // The record to write; nothing: it is removed.  Its bytes are valid until the next call.
  std::optional<Bytes> mend(WalkedRecord const& r);
  [[nodiscard]] std::map<Key, std::string> const& additions() const {
    return put_;
  }  // replace a record of the same key
  [[nodiscard]] bool anything_left() const {
    return left_;
  }  // false: no inode of the layer was saved
  // After finish_plan(): the inodes that stay, and those that are removed and were reported.
  [[nodiscard]] std::uint64_t inodes_accounted_for() const;
  [[nodiscard]] std::uint64_t last_inode() const {
    return nodes_.empty() ? 0 : nodes_.back().inode;
  }

 private:
  enum Flags : std::uint32_t {
    kHas = 1,   // has a sound inode record
    kLost = 2,  // part of its content is lost
    kInlineData = 4,
    kGap = 8,  // records may be missing among its own
    kDrop = 16,
    kMade = 32,        // a directory made again without its record
    kKeepOrphan = 64,  // has no name, as its orphan record says
    kEntries = 128,    // has entries
    kBadRecord = 256,
  };
  struct Node {
    std::uint64_t inode = 0, size = 0, blocks = 0, found = 0;  // found: blocks of its extents
    std::uint64_t extent_end = 0;
    std::uint64_t entries = 0;  // as planned
    std::uint32_t mode = 0, nlink = 0, flags = 0, names = 0, subdirectories = 0, inline_size = 0;
  };
  struct Link {
    std::uint64_t child = 0, directory = 0;
    std::uint64_t name = 0, key = 0;
    std::uint8_t type = 0;
    bool drop = false, matched = false;
  };
  struct Wanted {  // whose name must be read
    std::uint64_t child = 0, directory = 0;
    bool entry = false;  // make an entry; else a back reference
  };
  struct Pending {
    std::uint64_t child = 0, directory = 0;
    std::string name{};
  };

  void close();
  void take_xattr(WalkedRecord const& r);
  void end_xattr();
  void take_inline(WalkedRecord const& r);
  void take_extent(WalkedRecord const& r);
  bool unique(WalkedRecord const& r, std::string name);
  [[nodiscard]] Node* find(std::uint64_t inode);
  [[nodiscard]] bool directory(Node const* n) const;
  [[nodiscard]] bool root_lost();
  void make_directories();
  void drop_lost_files(bool complete);
  void check_entries();
  void tell_of_entries();
  void match();
  void choose_names();
  void reattach();
  void break_cycles();
  std::uint64_t lost_found();
  void attach(std::uint64_t inode);
  void add_entry(std::uint64_t directory, std::uint64_t child, std::string const& name);
  void add_back_reference(std::uint64_t child, std::uint64_t directory, std::string const& name);
  void settle_orphans();
  void count();
  void index_names();
  [[nodiscard]] std::string at(std::uint64_t inode) const;
  [[nodiscard]] std::uint64_t hash(std::string_view name) const;

  MendContext c_;
  std::vector<Node> nodes_;  // by inode
  std::vector<Link> entries_, parents_;
  std::vector<std::uint64_t> orphans_;
  std::set<Key> drop_;
  std::map<Key, std::string> put_;
  std::map<Key, Wanted> wanted_;
  std::map<std::uint64_t, std::string> gone_;  // removed inodes, and why
  std::map<Key, std::uint64_t> parting_;       // entries removed with them: the inode
  std::unordered_set<std::uint64_t> told_;     // those of gone_ whose name was reported
  std::vector<Pending> pending_;               // entries to be made
  std::vector<Pending> back_pending_;          // back references to be made
  // Directory, child: entries that were made.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> added_;
  std::unordered_set<std::uint64_t> taken_names_,
      taken_keys_;  // hashes of (directory, name), (inode, kind, key)
  bool indexed_ = false, left_ = false, complete_ = true;
  std::uint64_t lost_found_ = 0;

  // The current inode.
  Node now_{};
  Key group_{};
  std::vector<std::string> group_names_;
  std::vector<Key> xattr_keys_;
  std::uint32_t xattr_left_ = 0;
  std::uint64_t xattr_next_ = 0;
  std::array<std::byte, sizeof(InodeRecord)> inode_bytes_{};
};

}  // namespace lcfs::fsck
