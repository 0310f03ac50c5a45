// SPDX-License-Identifier: Apache-2.0
// Walks all records of one tree in key order, and looks up single records, directly in the nodes.
// A damaged node is reported once to `on_damage`; the walk skips what is below it and continues.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "format/records.h"
#include "fsck/node_source.h"
#include "fsck/vocabulary.h"

namespace lcfs::fsck {

struct WalkedRecord {
  Key key{};
  Bytes value{};            // valid until the next call
  std::uint64_t at = 0;     // offset on the device of the value; of its slot if the value is empty
  std::uint64_t owner = 0;  // of the leaf
  bool after_gap = false;   // records before it are missing: a node in between is damaged
};

// The record in slot i of a leaf.
WalkedRecord record_of(NodeReader const& leaf, std::uint32_t i);

struct WalkHooks {
  // Called for each node.  False: skip it and what is below (the hook has reported why).
  std::function<bool(std::uint64_t block, NodeHeader const& header, std::uint64_t parent_owner)>
      on_node{};
  // The node `ptr`, of that level (NodeSource::kAnyLevel: the root), is damaged.  It would hold
  // keys in [low, high).
  std::function<void(Error const& error, NodePtr const& ptr, unsigned level, Key const& low,
                     Key const& high)>
      on_damage{};
};

class TreeWalk {
 public:
  // owner: the owner of the tree; passed as parent_owner for the root.
  TreeWalk(NodeSource& source, NodePtr const& root, std::uint64_t owner, WalkHooks hooks);

  std::optional<WalkedRecord> next();
  // False once anything was skipped.
  [[nodiscard]] bool complete() const { return complete_; }

 private:
  struct Frame {
    NodeSource::Node node;
    std::uint32_t next = 0;  // slot or entry to take next
    Key low{}, high{};       // keys below this node lie in [low, high); high == kMaxKey: no bound
  };
  void enter(NodePtr const& ptr, unsigned level, std::uint64_t parent_owner, Key const& low,
             Key const& high);

  NodeSource& source_;
  WalkHooks hooks_;
  std::vector<Frame> stack_;  // root first; at most kMaxLevel + 1 deep, because levels fall by one
  bool complete_ = true;
  bool gap_ = false;
};

// The first record with a key in [key, end).  Nothing if there is none, or if a node on the way is
// damaged.
struct Found {
  NodeSource::Node node;  // keeps `record.value` alive
  WalkedRecord record{};
};
std::optional<Found> find_first(NodeSource& source, NodePtr const& root, Key const& key,
                                Key const& end);
// The last record with a key <= `key`.
std::optional<Found> find_last(NodeSource& source, NodePtr const& root, Key const& key);

}  // namespace lcfs::fsck
