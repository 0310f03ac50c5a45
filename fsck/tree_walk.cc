// SPDX-License-Identifier: Apache-2.0
#include "fsck/tree_walk.h"

#include <tuple>
#include <utility>

namespace lcfs::fsck {

WalkedRecord record_of(NodeReader const& node, std::uint32_t i) {
  WalkedRecord r;
  r.key = node.key(i);
  r.value = node.value(i);
  auto const in_node =
      r.value.empty() ? sizeof(NodeHeader) + i * sizeof(LeafSlot) : node.slot(i).value_offset.get();
  r.at = node.header().block.get() * kBlockSize + in_node;
  r.owner = node.header().owner.get();
  return r;
}

namespace {

// Whether all keys of the node are in [low, high).  Keys are in order, so the ends suffice.  The
// first key of a branch is only a hint: its child 0 takes everything below key 1.
Status check_bounds(NodeReader const& node, Key const& low, Key const& high) {
  auto const n = node.count();
  if (n == 0) return {};
  auto const at = node.header().block.get() * kBlockSize + sizeof(NodeHeader);
  auto const first = node.leaf() ? 0u : 1u;
  if (first < n && node.key(first) < low)
    return Error::corrupt("key below the range that the parent gives").at(at);
  if (high != kMaxKey && !(node.key(n - 1) < high))
    return Error::corrupt("key above the range that the parent gives").at(at);
  return {};
}

}  // namespace

TreeWalk::TreeWalk(NodeSource& source, NodePtr const& root, std::uint64_t owner, WalkHooks hooks)
    : source_(source), hooks_(std::move(hooks)) {
  if (root.block.get() != 0) enter(root, NodeSource::kAnyLevel, owner, Key{}, kMaxKey);
}

void TreeWalk::enter(NodePtr const& ptr, unsigned level, std::uint64_t parent_owner, Key const& low,
                     Key const& high) {
  auto node = source_.get(ptr, level);
  if (node) {
    NodeReader const reader((*node)->data());
    auto const bounds = check_bounds(reader, low, high);
    if (bounds) {
      if (!hooks_.on_node || hooks_.on_node(ptr.block.get(), reader.header(), parent_owner)) {
        if (!reader.leaf()) {
          std::vector<NodePtr> children;
          children.reserve(reader.count());
          for (std::uint32_t i = 0; i < reader.count(); ++i)
            children.push_back(reader.entry(i).child);
          source_.ahead(children, reader.header().level - 1u);
        }
        stack_.push_back({*std::move(node), 0, low, high});
        return;
      }
    } else if (hooks_.on_damage) {
      hooks_.on_damage(bounds.error(), ptr, level, low, high);
    }
  } else if (hooks_.on_damage) {
    hooks_.on_damage(node.error(), ptr, level, low, high);
  }
  complete_ = false;
  gap_ = true;
}

std::optional<WalkedRecord> TreeWalk::next() {
  while (!stack_.empty()) {
    auto& top = stack_.back();
    NodeReader const node(top.node->data());
    if (top.next >= node.count()) {
      stack_.pop_back();
      continue;
    }
    auto const i = top.next++;
    if (node.leaf()) {
      auto r = record_of(node, i);
      r.after_gap = std::exchange(gap_, false);
      return r;
    }
    auto const low = i == 0 ? top.low : node.key(i);
    auto const high = i + 1 < node.count() ? node.key(i + 1) : top.high;
    auto const& header = node.header();
    auto const keep = top.node;  // enter() may move the stack
    enter(node.entry(i).child, header.level - 1u, header.owner.get(), low, high);
  }
  return std::nullopt;
}

std::optional<Found> find_first(NodeSource& source, NodePtr const& root, Key const& key,
                                Key const& end) {
  // The first key >= `key` is in the leaf of `key` or in the next one: then the search restarts at
  // the lower bound of that leaf.
  Key want = key;
  for (int attempt = 0; attempt < 64; ++attempt) {
    if (root.block.get() == 0) return std::nullopt;
    NodePtr ptr = root;
    unsigned level = NodeSource::kAnyLevel;
    Key high = kMaxKey;
    for (;;) {
      auto node = source.get(ptr, level);
      if (!node) return std::nullopt;
      NodeReader const reader((*node)->data());
      if (reader.leaf()) {
        auto const i = reader.lower_bound(want);
        if (i < reader.count()) {
          if (!(reader.key(i) < end)) return std::nullopt;
          auto r = record_of(reader, i);
          return Found{*std::move(node), r};
        }
        break;
      }
      auto const i = reader.child_for(want);
      if (i + 1 < reader.count()) high = reader.key(i + 1);
      ptr = reader.entry(i).child;
      level = reader.header().level - 1u;
    }
    if (high == kMaxKey || !(want < high) || !(high < end)) return std::nullopt;
    want = high;
  }
  return std::nullopt;
}

std::optional<Found> find_last(NodeSource& source, NodePtr const& root, Key const& key) {
  if (root.block.get() == 0) return std::nullopt;
  // As find_first, but backwards: if the leaf starts after `key`, the result is the last record of
  // the leaf before it. `left` remembers the deepest branch where there was a child to the left.
  std::optional<std::pair<NodePtr, unsigned>> left;
  NodePtr ptr = root;
  unsigned level = NodeSource::kAnyLevel;
  bool rightmost = false;  // turned left: always the last child from here on
  for (;;) {
    auto node = source.get(ptr, level);
    if (!node) return std::nullopt;
    NodeReader const reader((*node)->data());
    if (reader.count() == 0 && !reader.leaf()) return std::nullopt;
    if (reader.leaf()) {
      auto i = rightmost ? reader.count() : reader.lower_bound(key);
      if (!rightmost && i < reader.count() && reader.key(i) == key) ++i;
      if (i > 0) {
        auto r = record_of(reader, i - 1);
        return Found{*std::move(node), r};
      }
      if (rightmost || !left) return std::nullopt;
      std::tie(ptr, level) = *left;
      rightmost = true;
      continue;
    }
    auto const i = rightmost ? reader.count() - 1 : reader.child_for(key);
    auto const below = reader.header().level - 1u;
    if (!rightmost && i > 0) left = {reader.entry(i - 1).child, below};
    ptr = reader.entry(i).child;
    level = below;
  }
}

}  // namespace lcfs::fsck
