// SPDX-License-Identifier: Apache-2.0
// Tree nodes as bytes: the checked reader, and the in-place editor of leaves and branches.
// Specification: doc/format.md, "Nodes".
//
// check_node() is the one gate between bytes from a device and code that trusts them: after it, the
// NodeReader functions need no bounds checks.  Editing functions keep every rule that check_node()
// checks, except the checksum, which seal_node() sets last.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/result.h"
#include "format/layout.h"

namespace lcfs::format {

// What the header of a node must contain; taken from the pointer to the node.
struct NodeExpectation {
  std::uint64_t block = 0;
  std::uint64_t generation = 0;
  std::uint32_t checksum = 0;
  std::uint8_t max_level = kMaxLevel;  // level of the parent - 1; exact if `exact_level`
  bool exact_level = false;
  StoreId store{};             // the uuid
  bool skip_checksum = false;  // fuzzing only: the shipped reader, past the checksum
};

// True if `says` is the id of store `uuid`, or its first 8 bytes and zeroes (kStoreIdBefore).
[[nodiscard]] bool names_store(StoreId const& says, StoreId const& uuid);

// Checks everything that can be checked of one node alone: magic, checksum (stored, computed and
// expected), address, generation, store, level, counts, key order, value bounds, no overlap of
// values, garbage count, child pointers below `total_blocks` and inside the device, level 0 where
// expected.  Error::offset is relative to the node.
Status check_node(std::span<std::byte const> node, NodeExpectation const& expect,
                  std::uint64_t total_blocks);

// Sets the checksum; the node is ready to be written.  Returns it.
std::uint32_t seal_node(std::span<std::byte> node);

// Read access to a node whose bytes are trusted.  Does not own the bytes.
class NodeReader {
 public:
  explicit NodeReader(std::byte const* node) : p_(node) {}

  [[nodiscard]] NodeHeader const& header() const {
    return *reinterpret_cast<NodeHeader const*>(p_);
  }
  [[nodiscard]] bool leaf() const { return header().level == 0; }
  [[nodiscard]] std::uint32_t count() const { return header().count.get(); }
  [[nodiscard]] Key key(std::uint32_t i) const {  // i < count()
    return leaf() ? key_of(slot(i)) : key_of(entry(i));
  }

  // Leaves
  [[nodiscard]] LeafSlot const& slot(std::uint32_t i) const {
    return reinterpret_cast<LeafSlot const*>(p_ + sizeof(NodeHeader))[i];
  }
  [[nodiscard]] std::span<std::byte const> value(std::uint32_t i) const {
    auto const& s = slot(i);
    return {p_ + s.value_offset.get(), s.value_size.get()};
  }
  // First slot whose key is >= k; count() if none.
  [[nodiscard]] std::uint32_t lower_bound(Key const& k) const;
  // Bytes that one more record could take after a compaction.
  [[nodiscard]] std::uint32_t free_bytes() const;

  // Branches
  [[nodiscard]] BranchEntry const& entry(std::uint32_t i) const {
    return reinterpret_cast<BranchEntry const*>(p_ + sizeof(NodeHeader))[i];
  }
  // The child that holds k: the last entry with key <= k, or 0.  count() >= 1.
  [[nodiscard]] std::uint32_t child_for(Key const& k) const;

  static Key key_of(LeafSlot const& s) { return {s.inode.get(), s.kind, s.offset.get()}; }
  static Key key_of(BranchEntry const& e) { return {e.inode.get(), e.kind, e.offset.get()}; }

 private:
  std::byte const* p_;
};

// Edits a node in place.  Does not own the bytes.
class NodeEditor : public NodeReader {
 public:
  explicit NodeEditor(std::byte* node) : NodeReader(node), p_(node) {}

  // An empty node; checksum unset.
  void init(std::uint64_t block, std::uint64_t owner, std::uint64_t generation, std::uint8_t level,
            StoreId const& store);
  NodeHeader& mutable_header() { return *reinterpret_cast<NodeHeader*>(p_); }

  // Leaf: puts a record before slot i (keys stay in order); false if there is no room even after
  // compaction. value.size() <= kMaxValue.
  bool insert(std::uint32_t i, Key const& key, std::span<std::byte const> value);
  // Leaf: gives slot i another value; false if there is no room (slot unchanged).
  bool replace(std::uint32_t i, std::span<std::byte const> value);
  void erase(std::uint32_t i, std::uint32_t n = 1);  // slots [i, i + n)
  // The bytes of slot i's value, to overwrite in place (same size).
  std::span<std::byte> mutable_value(std::uint32_t i);

  // Branch: false if full.
  bool insert_child(std::uint32_t i, Key const& key, NodePtr const& child);
  void set_child(std::uint32_t i, NodePtr const& child) { mutable_entry(i).child = child; }
  void set_child_key(std::uint32_t i, Key const& key);
  void erase_child(std::uint32_t i);

  // Moves the records or entries [from, count()) to the end of `to`, an editor of a node of the
  // same level with room.
  void move_tail(std::uint32_t from, NodeEditor& to);

 private:
  LeafSlot& mutable_slot(std::uint32_t i) {
    return reinterpret_cast<LeafSlot*>(p_ + sizeof(NodeHeader))[i];
  }
  BranchEntry& mutable_entry(std::uint32_t i) {
    return reinterpret_cast<BranchEntry*>(p_ + sizeof(NodeHeader))[i];
  }
  void compact();
  std::byte* p_;
};

}  // namespace lcfs::format
