// SPDX-License-Identifier: Apache-2.0
// The records of a damaged layer, made to agree again: what stays, what goes, what is added.
//
// Three passes over the same records: take() looks at each, then plan() decides; name() is shown
// them again for the names that plan() needs, or that users should be told (only if asked for);
// then mend() says of each record whether it stays, and additions() what comes between.
//
//   - A record that does not parse, or stands where no lookup finds it, goes; entries and back
//   references find their place again.
//   - A directory whose inode record is lost comes back as root's, mode 0700, for as long as
//   anything knows that it was there.
//     An entry that is lost comes back from the back reference, and the other way round.
//   - A file that lost data, its target or its inode record is removed: what is left of it would
//   read as zeroes.
//   - What has no name left, and a directory inside itself, goes to lost+found of the layer as
//   "#INODE".
//   - Link counts, sizes of directories and counts of blocks become what they count.
// Memory: about 90 bytes per inode and 50 per entry and per back reference of the one layer in
// hand, and what changes.
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

namespace lcfs::fsck {

struct MendContext {
  std::array<std::uint8_t, 16> seed{};
  std::uint64_t total_blocks = 0;
  std::uint64_t root = 0;  // inode of the root directory
  Timestamp now{};         // of what is made
  std::function<std::uint64_t()>
      lost_found_inode{};  // number for a new lost+found; the same each time for a tree
  std::function<bool(std::uint64_t inode)>
      condemned{};  // files that must go whatever their records say
  std::function<std::string(std::uint64_t inode)> path{};
  std::function<void(std::string text)>
      lost{};  // told of everything that users will miss or find elsewhere
};

class Mender {
 public:
  explicit Mender(MendContext context) : c_(std::move(context)) {}

  void take(Record const& r);
  // complete: no record is missing for damage.
  void plan(bool complete);
  [[nodiscard]] bool wants_names() const { return !wanted_.empty() || !parting_.empty(); }
  void name(Record const& r);
  void finish_plan();  // after the names

  // An inode without a name that keeps `extents` for layers above, which inherited them.
  void add_keeper(std::uint64_t inode, std::vector<ExtentInfo> const& extents);

  // The record as it shall be; nothing: it goes.  Its bytes live until the next call.
  std::optional<Bytes> mend(Record const& r);
  [[nodiscard]] std::map<Key, std::string> const& additions() const {
    return put_;
  }  // replace a record of the same key
  [[nodiscard]] bool anything_left() const {
    return left_;
  }  // false: no inode of the layer was saved
  // After finish_plan(): inodes that stay, and such as go and were told of.
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
    kMade = 32,        // a directory that comes back without its record
    kKeepOrphan = 64,  // has no name, by right
    kEntries = 128,    // entries were met
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
  struct Wanted {  // whose name is to be read
    std::uint64_t child = 0, directory = 0;
    bool entry = false;  // an entry is to be made; else a back reference
  };
  struct Pending {
    std::uint64_t child = 0, directory = 0;
    std::string name{};
  };

  void close();
  void take_xattr(Record const& r);
  void end_xattr();
  void take_inline(Record const& r);
  void take_extent(Record const& r);
  bool unique(Record const& r, std::string name);
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
  std::map<std::uint64_t, std::string> gone_;  // inodes that go, and why
  std::map<Key, std::uint64_t> parting_;       // entries that go because of that: the inode
  std::unordered_set<std::uint64_t> told_;     // of gone_, those whose name was told
  std::vector<Pending> pending_;               // entries to be made
  std::vector<Pending> back_pending_;          // back references to be made
  std::vector<std::pair<std::uint64_t, std::uint64_t>>
      added_;  // directory, child: entries that were made
  std::unordered_set<std::uint64_t> taken_names_,
      taken_keys_;  // hashes of (directory, name), (inode, kind, key)
  bool indexed_ = false, left_ = false, complete_ = true;
  std::uint64_t lost_found_ = 0;

  // The inode whose records come by.
  Node now_{};
  Key group_{};
  std::vector<std::string> group_names_;
  std::vector<Key> xattr_keys_;
  std::uint32_t xattr_left_ = 0;
  std::uint64_t xattr_next_ = 0;
  std::array<std::byte, sizeof(InodeRecord)> inode_bytes_{};
};

}  // namespace lcfs::fsck
