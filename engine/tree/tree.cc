// SPDX-License-Identifier: Apache-2.0
#include "engine/tree/tree.h"

#include <algorithm>
#include <cstring>

namespace lcfs {

namespace {

std::uint8_t level_of(NodeRef const& node) { return node->read().header().level; }
bool branch_full(NodeRef const& node) { return node->read().count() + 2 > kBranchMax; }

std::uint32_t record_bytes(NodeReader const& leaf, std::uint32_t i) {
  return static_cast<std::uint32_t>(sizeof(LeafSlot) + leaf.value(i).size());
}

// How many leading records of a leaf make up about half of its bytes; 1..count-1.
std::uint32_t middle_of(NodeReader const& leaf) {
  std::uint32_t const n = leaf.count();
  std::uint32_t total = 0;
  for (std::uint32_t i = 0; i < n; ++i) total += record_bytes(leaf, i);
  std::uint32_t sum = 0, i = 0;
  while (i < n && sum < total / 2) sum += record_bytes(leaf, i++);
  return std::clamp(i, 1u, n - 1);
}

constexpr std::uint32_t kWorthLeaning = kLeafRoom / 8;  // bytes: moving less is not worth it

// Where a full leaf is split to insert a record of `size` bytes before record `next`.  ascending:
// the last record went into the same leaf, before this one.  Then more will come behind, and none
// before (files that are written back one after the other): the left part stays as full as it is,
// if that is more than half.
std::uint32_t split_place(NodeReader const& leaf, std::uint32_t next, std::size_t size,
                          bool ascending) {
  std::uint32_t const middle = middle_of(leaf), n = leaf.count();
  if (!ascending || next <= middle || next >= n) return middle;
  std::uint32_t room = leaf.free_bytes();
  for (std::uint32_t i = next; i < n; ++i) room += record_bytes(leaf, i);
  return room >= sizeof(LeafSlot) + size
             ? next
             : next - 1;  // else it goes to the right, behind the one before it
}

std::uint32_t used_bytes(NodeReader const& node) {
  return node.leaf() ? kLeafRoom - node.free_bytes()
                     : node.count() * static_cast<std::uint32_t>(sizeof(BranchEntry));
}

}  // namespace

Tree::Tree(NodeCache& cache, OwnerSpace& space, NodePtr root)
    : cache_(cache), space_(space), root_(root) {}

NodePtr Tree::pointer_to(NodeRef const& node) const {
  NodePtr p;
  p.block.set(node->block);
  p.generation.set(node->read().header().generation.get());
  p.checksum.set(node->dirty ? 0 : node->read().header().checksum.get());
  return p;
}

Result<NodeRef> Tree::root_node() const {
  // Every descent begins here: keeping the root saves a look into the cache that all layers share.
  if (top_ && top_->block == root_.block.get()) return top_;
  return cache_.get(root_, kMaxLevel, false);
}

Result<NodeRef> Tree::child(NodeRef const& parent, std::uint32_t index) const {
  auto const r = parent->read();
  return cache_.get(r.entry(index).child, static_cast<std::uint8_t>(r.header().level - 1), true);
}

Result<NodeRef> Tree::new_node(std::uint8_t level) {
  LCFS_TRY_ASSIGN(std::uint64_t const block, space_.allocate_node());
  NodeRef node = cache_.create(block);
  node->edit().init(block, space_.owner(), generation_, level, cache_.store());
  dirty_.emplace(block, node);
  used_delta_ += kNodeBlocks;
  return node;
}

Result<NodeRef> Tree::copy(NodeRef const& node) {
  LCFS_TRY_ASSIGN(NodeRef to, new_node(level_of(node)));
  NodeHeader const fresh = to->read().header();
  std::memcpy(to->bytes.data(), node->bytes.data(), kNodeSize);
  auto& h = to->edit().mutable_header();
  h.block = fresh.block;
  h.owner = fresh.owner;
  h.generation = fresh.generation;
  h.checksum.set(0);
  drop(node);
  return to;
}

// The tree no longer points to `node`.
void Tree::drop(NodeRef const& node) {
  used_delta_ -= kNodeBlocks;
  if (last_leaf_ == node) last_leaf_ = nullptr;
  if (top_ == node) top_ = nullptr;
  if (node->read().header().owner.get() != space_.owner())
    return;  // inherited: not ours to free (I3)
  bool const was_dirty = dirty_.erase(node->block) != 0;
  Extent const blocks{node->block, kNodeBlocks};
  if (was_dirty) {
    cache_.forget(node->block);
    if (space_.unallocate(blocks)) return;  // never written: its blocks are free again at once
  }
  space_.free(blocks);
}

Result<NodeRef> Tree::writable_root() {
  LCFS_TRY_ASSIGN(NodeRef node, root_node());
  if (!node->dirty) {
    LCFS_TRY_ASSIGN(node, copy(node));
    root_ = pointer_to(node);
  }
  top_ = node;
  return node;
}

Result<NodeRef> Tree::writable_child(NodeRef const& parent, std::uint32_t index) {
  LCFS_TRY_ASSIGN(NodeRef node, child(parent, index));
  if (node->dirty) return node;
  LCFS_TRY_ASSIGN(node, copy(node));
  parent->edit().set_child(index, pointer_to(node));
  return node;
}

// Reading -----------------------------------------------------------------------------------------

Result<std::optional<Record>> Tree::get(Key const& key) const {
  if (empty()) return std::optional<Record>{};
  LCFS_TRY_ASSIGN(NodeRef node, root_node());
  while (!node->read().leaf()) {
    LCFS_TRY_ASSIGN(node, child(node, node->read().child_for(key)));
  }
  auto const leaf = node->read();
  std::uint32_t const i = leaf.lower_bound(key);
  if (i == leaf.count() || leaf.key(i) != key) return std::optional<Record>{};
  Bytes const value = leaf.value(i);
  return std::optional<Record>(Record{std::move(node), key, value});
}

Key Tree::read_ahead(Key const& key, std::size_t leaves) const {
  Key end{~0ull, 0xff, ~0ull};
  if (empty()) return end;
  auto node = root_node();
  while (node && level_of(*node) > 1) {
    auto const branch = (*node)->read();
    auto const i = branch.child_for(key);
    if (i + 1 < branch.count()) end = branch.key(i + 1);
    node = child(*node, i);
  }
  if (!node || level_of(*node) == 0) return end;
  auto const branch = (*node)->read();
  std::vector<NodePtr> wanted;
  auto i = branch.child_for(key);
  for (; i < branch.count() && wanted.size() < leaves; ++i) wanted.push_back(branch.entry(i).child);
  cache_.read_ahead(wanted, 0);
  return i < branch.count() ? branch.key(i) : end;
}

Status Tree::Cursor::descend(Key const& key) {
  path_.clear();
  leaf_ = nullptr;
  if (tree_->empty()) return {};
  LCFS_TRY_ASSIGN(NodeRef node, tree_->root_node());
  return descend_from(std::move(node), key);
}

Status Tree::Cursor::descend_from(NodeRef node, Key const& key) {
  while (!node->read().leaf()) {
    std::uint32_t const i = node->read().child_for(key);
    path_.push_back({node, i});
    LCFS_TRY_ASSIGN(node, tree_->child(node, i));
  }
  leaf_ = std::move(node);
  return {};
}

Status Tree::Cursor::move_right() {
  leaf_ = nullptr;
  while (!path_.empty() && path_.back().index + 1 >= path_.back().node->read().count())
    path_.pop_back();
  if (path_.empty()) return {};
  ++path_.back().index;
  LCFS_TRY_ASSIGN(NodeRef node, tree_->child(path_.back().node, path_.back().index));
  while (!node->read().leaf()) {
    path_.push_back({node, 0});
    LCFS_TRY_ASSIGN(node, tree_->child(node, 0));
  }
  leaf_ = std::move(node);
  index_ = 0;
  return {};
}

Status Tree::Cursor::move_left() {
  leaf_ = nullptr;
  while (!path_.empty() && path_.back().index == 0) path_.pop_back();
  if (path_.empty()) return {};
  --path_.back().index;
  LCFS_TRY_ASSIGN(NodeRef node, tree_->child(path_.back().node, path_.back().index));
  while (!node->read().leaf()) {
    std::uint32_t const last = node->read().count() - 1;
    path_.push_back({node, last});
    LCFS_TRY_ASSIGN(node, tree_->child(node, last));
  }
  leaf_ = std::move(node);
  if (leaf_->read().count() == 0) {
    leaf_ = nullptr;
    return {};
  }
  index_ = leaf_->read().count() - 1;
  return {};
}

Status Tree::Cursor::seek(Key const& key) {
  LCFS_TRY(descend(key));
  return settle(key);
}

// From the leaf that could hold `key` to the first record that is not below it, which may be in the
// next leaf.
Status Tree::Cursor::settle(Key const& key) {
  if (!leaf_) return {};
  index_ = leaf_->read().lower_bound(key);
  while (leaf_ && index_ >= leaf_->read().count()) LCFS_TRY(move_right());
  return {};
}

Status Tree::Cursor::seek_near(Key const& key) {
  if (leaf_) {
    auto const leaf = leaf_->read();
    std::uint32_t const n = leaf.count();
    if (n != 0 && !(key < leaf.key(0)) && !(leaf.key(n - 1) < key)) {
      index_ = leaf.lower_bound(key);
      return {};
    }
  }
  // Goes up to the lowest branch that certainly leads to the key.  A branch does not know where its
  // last child ends.
  while (!path_.empty()) {
    auto const branch = path_.back().node->read();
    if (!(key < branch.key(0)) && key < branch.key(branch.count() - 1)) break;
    path_.pop_back();
  }
  if (path_.empty()) return seek(key);
  NodeRef node = std::move(path_.back().node);
  path_.pop_back();
  leaf_ = nullptr;
  LCFS_TRY(descend_from(std::move(node), key));
  return settle(key);
}

Status Tree::Cursor::seek_floor(Key const& key) {
  LCFS_TRY(descend(key));
  if (!leaf_) return {};
  auto const leaf = leaf_->read();
  index_ = leaf.lower_bound(key);
  if (index_ < leaf.count() && leaf.key(index_) == key) return {};
  if (index_ > 0) {
    --index_;
    return {};
  }
  return move_left();
}

Status Tree::Cursor::next() {
  ++index_;
  while (leaf_ && index_ >= leaf_->read().count()) LCFS_TRY(move_right());
  return {};
}

// Changing ----------------------------------------------------------------------------------------

Status Tree::grow_root() {
  LCFS_TRY_ASSIGN(NodeRef const old, writable_root());
  LCFS_TRY_ASSIGN(NodeRef const top, new_node(static_cast<std::uint8_t>(level_of(old) + 1)));
  top->edit().insert_child(0, old->read().count() != 0 ? old->read().key(0) : Key{},
                           pointer_to(old));
  root_ = pointer_to(top);
  return {};
}

Result<NodeRef> Tree::split_child(NodeRef const& parent, std::uint32_t index, NodeRef const& node,
                                  std::uint32_t at) {
  LCFS_TRY_ASSIGN(NodeRef right, new_node(level_of(node)));
  NodeEditor left_edit = node->edit(), right_edit = right->edit();
  left_edit.move_tail(at, right_edit);
  if (last_leaf_ == node) last_leaf_ = right;
  parent->edit().insert_child(index + 1, right->read().key(0), pointer_to(right));
  return right;
}

// Makes room in a full leaf, to insert a record of `key` at `place`: moves leading records to the
// leaf before, if that is written anyway and has room.  False: nothing was done.
bool Tree::lean_left(NodeRef const& parent, std::uint32_t index, NodeRef const& leaf,
                     std::uint32_t place, Key const& key) {
  if (!parent || index == 0) return false;
  auto const before = dirty_.find(parent->read().entry(index - 1).child.block.get());
  if (before == dirty_.end()) return false;
  auto from = leaf->edit(), to = before->second->edit();
  std::uint32_t room = to.free_bytes(), n = 0;
  if (room < kWorthLeaning) return false;
  for (; n < place && n + 1 < from.count() && record_bytes(from, n) <= room; ++n) {
    room -= record_bytes(from, n);
    to.insert(to.count(), from.key(n), from.value(n));
  }
  if (n == 0) return false;
  from.erase(0, n);
  parent->edit().set_child_key(index, n == place ? key : from.key(0));
  return true;
}

// `leaf` is child `index` of `parent`, which has room for two more children; parent is null if the
// leaf is the root.
Status Tree::insert_into_leaf(NodeRef parent, std::uint32_t index, NodeRef leaf, Key const& key,
                              Bytes value) {
  for (int tries = 0; tries < 6; ++tries) {
    auto edit = leaf->edit();
    std::uint32_t const i = edit.lower_bound(key);
    if (i < edit.count() && edit.key(i) == key) {
      if (edit.replace(i, value)) return {};
      edit.erase(i);  // goes in again below, after a split if need be
      continue;
    }
    if (edit.insert(i, key, value)) {
      last_insert_ = key;
      return {};
    }
    if (!parent) {
      LCFS_TRY(grow_root());
      LCFS_TRY_ASSIGN(parent, writable_root());
      index = 0;
    }
    if (i == edit.count()) {
      // Behind the end: keeps this leaf full and starts a new one, so that ascending inserts fill
      // leaves.
      LCFS_TRY_ASSIGN(NodeRef right, new_node(0));
      right->edit().insert(0, key, value);
      parent->edit().insert_child(index + 1, key, pointer_to(right));
      if (last_leaf_ == leaf) last_leaf_ = right;
      last_insert_ = key;
      return {};
    }
    if (lean_left(parent, index, leaf, i, key)) continue;
    auto const records = leaf->read();
    bool const ascending = last_insert_ < key && !(last_insert_ < records.key(0));
    LCFS_TRY_ASSIGN(NodeRef right, split_child(parent, index, leaf,
                                               split_place(records, i, value.size(), ascending)));
    if (!(key < right->read().key(0))) {
      leaf = std::move(right);
      ++index;
    }
  }
  return Error::corrupt("a record does not fit into an empty leaf");
}

Status Tree::put(Key const& key, Bytes value) {
  if (value.size() > kMaxValue) return Error::invalid("record too large");
  if (empty()) {
    LCFS_TRY_ASSIGN(NodeRef const leaf, new_node(0));
    root_ = pointer_to(leaf);
  }
  LCFS_TRY_ASSIGN(NodeRef node, writable_root());
  if (level_of(node) > 0 && branch_full(node)) {
    LCFS_TRY(grow_root());
    LCFS_TRY_ASSIGN(node, writable_root());
  }
  NodeRef parent{};
  std::uint32_t index = 0;
  while (level_of(node) > 0) {
    parent = node;
    index = parent->read().child_for(key);
    // Child 0 also takes keys below its own: keep its key the lower bound that readers may rely on.
    if (index == 0 && key < parent->read().key(0)) parent->edit().set_child_key(0, key);
    LCFS_TRY_ASSIGN(node, writable_child(parent, index));
    if (level_of(node) > 0 && branch_full(node)) {
      std::uint32_t const n = node->read().count();
      // Appending fills branches; anything else splits in the middle.
      bool const at_end = key > node->read().key(n - 1);
      LCFS_TRY_ASSIGN(NodeRef right, split_child(parent, index, node, at_end ? n - 1 : n / 2));
      if (!(key < right->read().key(0))) {
        node = std::move(right);
        ++index;
      }
      if (branch_full(parent)) {
        // Cannot happen twice on one way down: the parent had room for two when we entered it.
        continue;
      }
    }
  }
  ++changes_;
  return insert_into_leaf(std::move(parent), index, std::move(node), key, value);
}

Status Tree::append(Key const& key, Bytes value) {
  if (last_leaf_ && last_leaf_->dirty) {
    auto edit = last_leaf_->edit();
    if (edit.insert(edit.count(), key, value)) {
      ++changes_;
      return {};
    }
  }
  LCFS_TRY(put(key, value));
  LCFS_TRY_ASSIGN(NodeRef node, root_node());
  while (level_of(node) > 0) {
    LCFS_TRY_ASSIGN(node, child(node, node->read().count() - 1));
  }
  last_leaf_ = node->dirty ? node : nullptr;
  return {};
}

// After something was erased from `node`, whose ancestors are `path` (all writable): drops empty
// nodes, joins small neighbours.
Status Tree::fix_up(std::vector<Step>& path, NodeRef node) {
  while (!path.empty()) {
    NodeRef const parent = path.back().node;
    std::uint32_t const index = path.back().index;
    path.pop_back();
    std::uint32_t const used = used_bytes(node->read());
    if (node->read().count() == 0) {
      drop(node);
      parent->edit().erase_child(index);
    } else if (used < kLeafRoom / 4 && parent->read().count() > 1) {
      std::uint32_t const left_index = index > 0 ? index - 1 : 0;
      LCFS_TRY_ASSIGN(NodeRef const other, child(parent, index > 0 ? left_index : 1));
      if (used_bytes(other->read()) + used <= kLeafRoom * 3 / 4) {
        LCFS_TRY_ASSIGN(NodeRef const left, writable_child(parent, left_index));
        LCFS_TRY_ASSIGN(NodeRef const right, writable_child(parent, left_index + 1));
        auto to = left->edit();
        right->edit().move_tail(0, to);
        drop(right);
        parent->edit().erase_child(left_index + 1);
      }
    }
    node = parent;
  }
  // An empty root is dropped; the only child of a branch replaces it.
  while (node->read().count() <= 1) {
    if (node->read().count() == 0) {
      drop(node);
      root_ = NodePtr{};
      return {};
    }
    if (node->read().leaf()) return {};
    LCFS_TRY_ASSIGN(NodeRef const only, child(node, 0));
    root_ = node->read().entry(0).child;
    drop(node);
    node = only;
    if (!node->dirty) return {};
  }
  return {};
}

Result<bool> Tree::erase(Key const& key) {
  LCFS_TRY_ASSIGN(auto const found, get(key));
  if (!found) return false;
  LCFS_TRY(erase_range(key, key, nullptr));
  return true;
}

// Drops a leaf whose records all lie in [low, high], without copying it first.
Result<bool> Tree::drop_whole_leaf(NodeRef const& parent, std::uint32_t index, Key const& low,
                                   Key const& high,
                                   std::function<Status(Key const&, Bytes)> const& take) {
  LCFS_TRY_ASSIGN(NodeRef const leaf, child(parent, index));
  auto const records = leaf->read();
  std::uint32_t const n = records.count();
  if (n == 0 || records.key(0) < low || high < records.key(n - 1)) return false;
  ++changes_;
  if (take) {
    for (std::uint32_t i = 0; i < n; ++i) LCFS_TRY(take(records.key(i), records.value(i)));
  }
  drop(leaf);
  parent->edit().erase_child(index);
  return true;
}

Status Tree::erase_range(Key const& low, Key const& high,
                         std::function<Status(Key const&, Bytes)> const& take) {
  for (;;) {
    // Looks first: an empty range must not copy a path.  And descends to the leaf that holds the
    // first record of the range, which may be right of the one that could hold `low` itself.
    Key first;
    {
      Cursor c(*this);
      LCFS_TRY(c.seek(low));
      if (!c.valid() || high < c.key()) return {};
      first = c.key();
    }
    std::vector<Step> path;
    LCFS_TRY_ASSIGN(NodeRef node, writable_root());
    bool dropped = false;
    while (level_of(node) > 0 && !dropped) {
      std::uint32_t const index = node->read().child_for(first);
      if (level_of(node) == 1) {
        LCFS_TRY_ASSIGN(dropped, drop_whole_leaf(node, index, low, high, take));
        if (dropped) break;
      }
      path.push_back({node, index});
      LCFS_TRY_ASSIGN(node, writable_child(node, index));
    }
    if (dropped) {
      LCFS_TRY(fix_up(path, node));
      if (empty()) return {};
      continue;
    }
    auto leaf = node->edit();
    std::uint32_t const begin = leaf.lower_bound(low);
    std::uint32_t end = begin;
    while (end < leaf.count() && leaf.key(end) <= high) {
      if (take) LCFS_TRY(take(leaf.key(end), leaf.value(end)));
      ++end;
    }
    ++changes_;
    // The next leaf may have records of the range.
    bool const more = end == leaf.count() && low != high;
    leaf.erase(begin, end - begin);
    LCFS_TRY(fix_up(path, node));
    if (empty() || !more) return {};
  }
}

std::vector<NodeRef> Tree::seal() {
  std::vector<NodeRef> nodes;
  nodes.reserve(dirty_.size());
  std::uint8_t top = 0;
  for (auto const& [block, node] : dirty_) {
    nodes.push_back(node);
    top = std::max(top, level_of(node));
  }
  std::sort(nodes.begin(), nodes.end(), [](NodeRef const& a, NodeRef const& b) {
    return std::pair(level_of(a), a->block) < std::pair(level_of(b), b->block);
  });
  for (auto const& node : nodes) {  // bottom-up: children have their checksums before their parents
    auto edit = node->edit();
    if (level_of(node) > 0) {
      for (std::uint32_t i = 0; i < edit.count(); ++i) {
        NodePtr p = edit.entry(i).child;
        if (auto it = dirty_.find(p.block.get()); it != dirty_.end()) {
          p.checksum = it->second->read().header().checksum;
          edit.set_child(i, p);
        }
      }
    }
    seal_node(node->bytes.span());
  }
  if (auto it = dirty_.find(root_.block.get()); it != dirty_.end())
    root_.checksum = it->second->read().header().checksum;
  for (auto const& node : nodes) node->dirty = false;
  dirty_.clear();
  last_leaf_ = nullptr;
  std::sort(nodes.begin(), nodes.end(),
            [](NodeRef const& a, NodeRef const& b) { return a->block < b->block; });
  return nodes;
}

void Tree::reset(NodePtr root) {
  root_ = root;
  last_leaf_ = {};
  top_ = {};
}

void Tree::abandon() {
  for (auto const& [block, node] : dirty_) cache_.forget(block);
  dirty_.clear();
  last_leaf_ = nullptr;
  top_ = nullptr;
}

}  // namespace lcfs
