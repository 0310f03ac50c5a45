// SPDX-License-Identifier: Apache-2.0
// The copy-on-write B-tree: one per layer, and one more for the store itself.
//
// A tree owns the nodes whose header names its owner.  All others are inherited: it only points to
// them, without reference counts (I3).  A node may be changed in place only while it is dirty.
// Otherwise a copy takes its place; the old blocks are freed if the tree owns them, else only
// dropped.  seal() ends that: it sets checksums bottom-up, and every dirty node becomes constant.
// So a clone is a copy of a sealed root pointer, O(1) (I9).
//
// Levels are at most kMaxLevel; nothing recurses.
//
// Threads: reading functions may run together; changing ones need the tree to themselves (the
// owner's lock).
//
// Errors: a device or checksum error from a changing function may leave the operation half done.
// The owner must then give up the tree's unsealed state.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/space/owner_space.h"
#include "engine/tree/node_cache.h"
#include "engine/types.h"
#include "format/records.h"

namespace lcfs {

// A record that was found.  Its value lives as long as `hold`, and until the tree is changed.
struct Record {
  NodeRef hold{};
  Key key{};
  Bytes value{};
};

class Tree {
 public:
  // The owner is space.owner().  Cache and space outlive the tree.
  Tree(NodeCache& cache, OwnerSpace& space, NodePtr root);

  [[nodiscard]] NodePtr root() const { return root_; }
  [[nodiscard]] bool empty() const { return root_.block.get() == 0; }
  void set_generation(std::uint64_t generation) { generation_ = generation; }
  [[nodiscard]] std::uint64_t generation() const { return generation_; }

  // Reading
  Result<std::optional<Record>> get(Key const& key) const;
  // Loads up to `leaves` leaves, beginning with the one that `key` belongs to, as far as one branch
  // leads; neighbours on the device with one read.  Returns the key behind what they hold.  Errors
  // are left to get() to report.
  Key read_ahead(Key const& key, std::size_t leaves) const;

  class Cursor {
   public:
    explicit Cursor(Tree const& tree) : tree_(&tree) {}
    Status seek(Key const& key);        // first record with key >= key
    Status seek_floor(Key const& key);  // last record with key <= key
    Status seek_near(Key const& key);   // seek(), going up only as far as needed from here
    Status next();
    [[nodiscard]] bool valid() const { return leaf_ != nullptr; }
    [[nodiscard]] Key key() const { return leaf_->read().key(index_); }
    [[nodiscard]] Bytes value() const { return leaf_->read().value(index_); }
    [[nodiscard]] NodeRef const& node() const { return leaf_; }

   private:
    struct Step {
      NodeRef node;
      std::uint32_t index;
    };
    Status descend(Key const& key);
    Status descend_from(NodeRef node, Key const& key);
    Status settle(Key const& key);
    Status move_right();
    Status move_left();
    Tree const* tree_;
    std::vector<Step> path_;
    NodeRef leaf_{};
    std::uint32_t index_ = 0;
  };

  // Changing
  Status put(Key const& key, Bytes value);  // insert or replace
  // Like put, for keys greater than any in the tree: does not search if the rightmost leaf is at
  // hand and has room.
  Status append(Key const& key, Bytes value);
  Result<bool> erase(Key const& key);  // false: was not there
  // Erases all records in [low, high]; passes each to `take` (may be null) before.
  Status erase_range(Key const& low, Key const& high,
                     std::function<Status(Key const&, Bytes)> const& take);

  // Sets all checksums.  Nodes become constant; returns them in address order for writing.
  std::vector<NodeRef> seal();
  [[nodiscard]] std::size_t dirty_nodes() const { return dirty_.size(); }
  // Becomes the tree of another, sealed root.  Nothing may be dirty.
  void reset(NodePtr root);
  // Forgets all dirty nodes, as if they had never been made (a failed import).
  void abandon();

  // Counts records changed: an operation that failed without moving it changed nothing.
  [[nodiscard]] std::uint64_t changes() const { return changes_; }

  // Nodes referenced less nodes dropped since the last call, in blocks.
  std::int64_t take_used_delta() { return std::exchange(used_delta_, 0); }

 private:
  struct Step {
    NodeRef node;
    std::uint32_t index;  // child taken
  };

  Result<NodeRef> child(NodeRef const& parent, std::uint32_t index) const;
  Result<NodeRef> root_node() const;
  Result<NodeRef> new_node(std::uint8_t level);
  Result<NodeRef> writable_root();
  Result<NodeRef> writable_child(NodeRef const& parent, std::uint32_t index);
  Result<NodeRef> copy(NodeRef const& node);
  void drop(NodeRef const& node);
  NodePtr pointer_to(NodeRef const& node) const;
  // Splits child `index` of `parent` (both writable, parent not full); at: records or entries that
  // stay left.
  Result<NodeRef> split_child(NodeRef const& parent, std::uint32_t index, NodeRef const& node,
                              std::uint32_t at);
  Status grow_root();
  Status insert_into_leaf(NodeRef parent, std::uint32_t index, NodeRef leaf, Key const& key,
                          Bytes value);
  bool lean_left(NodeRef const& parent, std::uint32_t index, NodeRef const& leaf,
                 std::uint32_t place, Key const& key);
  Result<bool> drop_whole_leaf(NodeRef const& parent, std::uint32_t index, Key const& low,
                               Key const& high,
                               std::function<Status(Key const&, Bytes)> const& take);
  Status fix_up(std::vector<Step>& path, NodeRef node);

  NodeCache& cache_;
  OwnerSpace& space_;
  NodePtr root_;
  std::uint64_t generation_ = 0;
  std::unordered_map<std::uint64_t, NodeRef> dirty_;
  NodeRef last_leaf_{};  // rightmost leaf while appending; dirty or null
  NodeRef top_{};        // the root, since it was last changed; or null
  std::int64_t used_delta_ = 0;
  Key last_insert_{};  // the last record that went in where there was none of its key
  std::uint64_t changes_ = 0;
};

// Calls op(key, value) for every record in [low, high].  op returns Result<bool>: false ends it.
template <class Op>
Status scan(Tree const& tree, Key const& low, Key const& high, Op const& op) {
  Tree::Cursor c(tree);
  LCFS_TRY(c.seek(low));
  while (c.valid() && c.key() <= high) {
    LCFS_TRY_ASSIGN(bool const more, op(c.key(), c.value()));
    if (!more) return {};
    LCFS_TRY(c.next());
  }
  return {};
}

inline Bytes as_bytes(std::string_view s) { return std::as_bytes(std::span{s.data(), s.size()}); }

}  // namespace lcfs
