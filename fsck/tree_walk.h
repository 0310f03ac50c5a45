// SPDX-License-Identifier: Apache-2.0
// All records of one tree in key order, and single lookups in it, straight from the nodes.
// A damaged node is told once to `on_damage`; what hangs below it is left out and the walk goes on
// behind it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "format/records.h"
#include "fsck/node_source.h"

namespace lcfs::fsck {

struct Record {
  Key key{};
  Bytes value{};            // valid until the next call
  std::uint64_t at = 0;     // device byte of the value; of its slot if the value is empty
  std::uint64_t owner = 0;  // of the leaf
  bool after_gap = false;   // records before it are missing: a node between was damaged
};

// Of slot i of a leaf.
Record record_of(NodeReader const& leaf, std::uint32_t i);

struct WalkHooks {
  // A node was entered.  False: do not go below it (the hook has said why).
  std::function<bool(std::uint64_t block, NodeHeader const& header, std::uint64_t parent_owner)>
      on_node{};
  // The node `ptr`, of that level (NodeSource::kAnyLevel: the root), can't be used.  It would have
  // held keys in [low, high).
  std::function<void(Error const& error, NodePtr const& ptr, unsigned level, Key const& low,
                     Key const& high)>
      on_damage{};
};

class TreeWalk {
 public:
  // owner: whose tree this is; passed as parent_owner for the root.
  TreeWalk(NodeSource& source, NodePtr const& root, std::uint64_t owner, WalkHooks hooks);

  std::optional<Record> next();
  // False once anything was left out.
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

// A record by its key, or the first one at or behind `key` below `end`.  Nothing if there is none,
// or if a node on the way is damaged.
struct Found {
  NodeSource::Node node;  // keeps `record.value` alive
  Record record{};
};
std::optional<Found> find_first(NodeSource& source, NodePtr const& root, Key const& key,
                                Key const& end);
// The last record with a key <= `key`.
std::optional<Found> find_last(NodeSource& source, NodePtr const& root, Key const& key);

}  // namespace lcfs::fsck
