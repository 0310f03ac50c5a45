// SPDX-License-Identifier: Apache-2.0
// Checks what a layer changed in its parent's tree: given a sound parent, is the layer sound?
//
// Reads only nodes that the parent does not have: equal pointers mean equal subtrees, which the
// parent's check has covered.  They give the added and removed records, and each rule of a whole
// walk is checked as a difference:
// - bounds: a shared subtree keeps its bounds (else its outermost keys are checked);
// - inodes: those with a changed record are checked completely, except that the entries of
//   directories are only counted up and down;
// - links: added and removed entries and back references cancel out; link counts change with the
//   entries;
// - reachability: every directory with a new parent leads to the root;
// - space: all own blocks are among the added ones; inherited ones are where the parent has them.
//
// It only confirms soundness.  In every other case (damage, unknown shapes, errors) the layer gets
// a whole walk, which reports the problem.  Cost: the changed nodes, the records of changed inodes,
// the depth of moved directories.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "fsck/inode_check.h"
#include "fsck/node_source.h"
#include "fsck/owners.h"
#include "fsck/store_scan.h"
#include "fsck/tree_walk.h"

namespace lcfs::fsck {

class LayerDelta {
 public:
  LayerDelta(NodeSource& source, StoreScan const& scan, SuperblockInfo const& superblock,
             LayerEntry const& layer, LayerEntry const& parent)
      : source_(source), scan_(scan), sb_(superblock), layer_(layer.info), parent_(parent.info) {}

  // The parent must be sound.  False: not certainly sound, and the other members are meaningless.
  bool sound();

  [[nodiscard]] std::int64_t inodes() const { return inodes_; }  // minus those of the parent
  [[nodiscard]] std::int64_t used_blocks() const { return used_blocks_; }  // likewise
  [[nodiscard]] std::uint64_t last_inode() const { return last_inode_; }   // of those added
  [[nodiscard]] std::vector<Use>& own() { return own_; }  // everything that the layer owns
  // Drops the nodes it has read, and new_data() with them.
  void drop_nodes();
  // Extents whose data no ancestor's check has read; valid as long as this object.
  [[nodiscard]] std::vector<WalkedRecord> const& new_data() const { return new_data_; }

 private:
  struct Pointer {
    NodePtr ptr{};
    Key low{}, high{};  // keys in [low, high); high == kMaxKey: no bound
  };
  struct Change {
    WalkedRecord record{};
    bool added = false;
  };
  // One tree's nodes that the other lacks, level by level.
  struct Side {
    std::vector<Pointer> level{};  // of the current level, in key order
    std::vector<Pointer> next{};
    std::vector<NodeSource::Node> leaves{};
    std::uint64_t nodes = 0;
  };
  bool compare_nodes();
  std::optional<unsigned> enter_root(LayerInfo const& info, Side& side);
  bool open_all(Side& side, std::span<Pointer const> pointers, unsigned level, bool ours);
  bool open(Side& side, Pointer const& p, unsigned level, bool ours);
  bool within(Pointer const& p, unsigned level, Key const& low, Key const& high);
  void compare_records(Side const& ours, Side const& theirs);
  bool take(Change const& c);
  bool take_extent(Change const& c, ExtentInfo const& extent);
  using MaybeInode = std::optional<InodeInfo>;
  bool check_inode(std::uint64_t inode, MaybeInode const& now, MaybeInode const& before);
  bool check_entry_group(WalkedRecord const& r, std::string_view name);
  bool check_links(std::uint64_t inode, MaybeInode const& now, MaybeInode const& before);
  bool check_reach(std::uint64_t directory);
  bool links_cancel_out();
  void add_link(std::uint64_t child, std::uint64_t directory, std::string_view name, int sign);
  // Keys are mostly asked for in order, so the leaf of the last answer often has the next one too.
  struct Place {
    NodePtr const& root;
    NodeSource::Node leaf{};
  };
  [[nodiscard]] std::optional<WalkedRecord> at(Place& place, Key const& key);
  [[nodiscard]] MaybeInode inode_in(Place& place, std::uint64_t inode);
  template <class Take>
  void range(Key from, Key const& end, Take const& take);

  NodeSource& source_;
  StoreScan const& scan_;
  SuperblockInfo const& sb_;
  LayerInfo const& layer_;
  LayerInfo const& parent_;
  std::vector<NodeSource::Node> held_;  // leaves whose records are in changes_
  std::vector<Change> changes_;
  Place now_{layer_.root}, before_{parent_.root};
  bool orphans_ = false;  // it has any
  // Inodes to look at; some more than once until they are sorted.
  std::vector<std::uint64_t> touched_;
  std::vector<std::uint64_t> moved_;  // directories with another parent
  std::unordered_set<std::uint64_t> reached_;
  struct Link {
    std::uint64_t child = 0, directory = 0;
    std::uint64_t name = 0;  // hash of all its bytes
    int sign = 0;            // entries count up, back references down
    [[nodiscard]] bool same(Link const& o) const {
      return child == o.child && directory == o.directory && name == o.name;
    }
  };
  std::vector<Link> links_;
  struct Counts {
    std::int64_t named = 0;                 // entries that name it
    std::int64_t entries = 0, subdirs = 0;  // entries that it has
  };
  std::unordered_map<std::uint64_t, Counts> counts_;  // changes
  struct Named {
    std::uint64_t inode = 0;
    std::uint8_t type = 0;
  };
  std::vector<Named> named_;  // by entries that were added
  std::int64_t inodes_ = 0, used_blocks_ = 0;
  std::uint64_t last_inode_ = 0;
  std::vector<Use> own_;
  std::vector<WalkedRecord> new_data_;
};

}  // namespace lcfs::fsck
