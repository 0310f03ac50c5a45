// SPDX-License-Identifier: Apache-2.0
#include "fsck/tree_builder.h"

#include <algorithm>
#include <cstring>

namespace lcfs::fsck {

NodeWriter::NodeWriter(Device& device, FreeBlocks& free, std::uint64_t generation,
                       StoreId const& store)
    : device_(device),
      free_(free),
      generation_(generation),
      store_(store),
      batch_(kBatchNodes * kNodeSize) {}

Result<std::uint64_t> NodeWriter::allocate() {
  if (auto const block = free_.take(kNodeBlocks)) return *block;
  return Error::no_space("no free blocks for the repaired trees; the store is unchanged")
      .in(device_.name());
}

Result<NodePtr> NodeWriter::write(std::span<std::byte> node) {
  NodePtr ptr;
  ptr.checksum.set(seal_node(node));
  auto const& header = NodeReader(node.data()).header();
  ptr.block = header.block;
  ptr.generation = header.generation;
  auto const block = header.block.get();
  if (count_ == kBatchNodes || (count_ > 0 && block != first_ + count_ * kNodeBlocks)) {
    LCFS_TRY(flush());
  }
  if (count_ == 0) first_ = block;
  std::memcpy(batch_.data() + count_ * kNodeSize, node.data(), kNodeSize);
  ++count_;
  return ptr;
}

Status NodeWriter::flush() {
  if (count_ == 0) return {};
  auto const bytes = std::span<std::byte const>(batch_.span()).first(count_ * kNodeSize);
  count_ = 0;
  return device_.write(first_ * kBlockSize, bytes);
}

Result<TreeOutline> outline(NodeSource& source, NodePtr const& root) {
  TreeOutline tree;
  if (root.block.get() == 0) return tree;
  // From the root down, level by level.
  std::vector<TreeOutline::Entry> level{{Key{}, root, 1}};
  for (unsigned expected = NodeSource::kAnyLevel;;) {
    LCFS_TRY_ASSIGN(auto const first, source.get(level[0].ptr, expected));
    unsigned const height = NodeReader(first->data()).header().level;
    tree.levels.push_back(level);
    if (height == 0) break;
    std::vector<TreeOutline::Entry> below;
    std::vector<std::size_t> starts;
    for (auto const& e : level) {
      LCFS_TRY_ASSIGN(auto const node, source.get(e.ptr, height));
      NodeReader const reader(node->data());
      starts.push_back(below.size());
      for (std::uint32_t i = 0; i < reader.count(); ++i)
        below.push_back({i == 0 ? e.low : reader.key(i), reader.entry(i).child, 1});
    }
    tree.children.push_back(std::move(starts));
    level = std::move(below);
    expected = height - 1;
  }
  std::reverse(tree.levels.begin(), tree.levels.end());
  std::reverse(tree.children.begin(), tree.children.end());
  for (std::size_t l = 1; l < tree.levels.size(); ++l) {
    auto const& starts = tree.children[l - 1];
    auto const& below = tree.levels[l - 1];
    for (std::size_t i = 0; i < tree.levels[l].size(); ++i) {
      auto const end = i + 1 < starts.size() ? starts[i + 1] : below.size();
      for (auto c = starts[i]; c < end; ++c) tree.levels[l][i].nodes += below[c].nodes;
    }
  }
  return tree;
}

TreeBuilder::TreeBuilder(NodeWriter& out, std::uint64_t owner, NodeSource& source,
                         TreeOutline const* shared)
    : out_(out),
      owner_(owner),
      source_(source),
      shared_(shared != nullptr && !shared->levels.empty() ? shared : nullptr) {
  if (shared_ != nullptr) at_ = shared_->levels[0].size();  // the first record finds its leaf
}

Status TreeBuilder::pack(Key const& key, Bytes value) {
  NodeEditor leaf(leaf_.data());
  if (leaf_open_ && leaf.insert(leaf.count(), key, value)) return {};
  LCFS_TRY(end_leaf());
  LCFS_TRY_ASSIGN(auto const block, out_.allocate());
  out_.init(leaf, block, owner_, 0);
  written_.push_back(block);
  leaf_open_ = true;
  leaf_low_ = key;
  leaf.insert(0, key, value);  // an empty leaf takes any record
  return {};
}

Status TreeBuilder::end_leaf() {
  if (!leaf_open_) return {};
  leaf_open_ = false;
  LCFS_TRY_ASSIGN(auto const ptr, out_.write(leaf_.span()));
  leaves_.push_back({leaf_low_, ptr, 1});
  return {};
}

Status TreeBuilder::leave_template() {
  if (!matching_) return {};
  matching_ = false;
  NodeReader const reader(node_->data());
  for (std::uint32_t i = 0; i < matched_; ++i) {
    LCFS_TRY(pack(reader.key(i), reader.value(i)));
  }
  return {};
}

Status TreeBuilder::end_template() {
  if (!matching_) return {};
  if (matched_ != NodeReader(node_->data()).count() || matched_ == 0) return leave_template();
  matching_ = false;
  LCFS_TRY(end_leaf());
  leaves_.push_back(shared_->levels[0][at_]);
  return {};
}

// Advances to the template's leaf for `key`.
Status TreeBuilder::next_template(Key const& key) {
  auto const& leaves = shared_->levels[0];
  if (at_ < leaves.size() && (at_ + 1 == leaves.size() || key < leaves[at_ + 1].low)) return {};
  LCFS_TRY(end_template());
  auto const it = std::upper_bound(leaves.begin(), leaves.end(), key,
                                   [](Key const& k, Entry const& e) { return k < e.low; });
  at_ = static_cast<std::size_t>(it - leaves.begin()) -
        1;  // the first leaf's bound is the smallest key
  auto node = source_.get(leaves[at_].ptr, 0);
  matching_ = node.ok();  // otherwise it is not shared
  matched_ = 0;
  if (matching_) node_ = *std::move(node);
  return {};
}

Status TreeBuilder::add(Key const& key, Bytes value) {
  if (shared_ == nullptr) return pack(key, value);
  LCFS_TRY(next_template(key));
  if (matching_) {
    NodeReader const reader(node_->data());
    if (matched_ < reader.count() && reader.key(matched_) == key) {
      auto const theirs = reader.value(matched_);
      if (theirs.size() == value.size() && std::equal(value.begin(), value.end(), theirs.begin())) {
        ++matched_;
        return {};
      }
    }
    LCFS_TRY(leave_template());
  }
  return pack(key, value);
}

Result<NodePtr> TreeBuilder::write_branch(std::span<Entry const> children, std::uint8_t level,
                                          std::uint64_t& nodes) {
  AlignedBuffer buffer(kNodeSize);
  NodeEditor node(buffer.data());
  LCFS_TRY_ASSIGN(auto const block, out_.allocate());
  out_.init(node, block, owner_, level);
  written_.push_back(block);
  nodes = 1;
  for (auto const& c : children) {
    node.insert_child(node.count(), c.low, c.ptr);
    nodes += c.nodes;
  }
  return out_.write(buffer.span());
}

// The level above `below`, which is level - 1.
Result<std::vector<TreeBuilder::Entry>> TreeBuilder::build_level(std::vector<Entry> const& below,
                                                                 std::uint8_t level) {
  std::vector<Entry> above;
  std::size_t open = 0;  // below[open, i) have no parent yet
  auto const close = [&](std::size_t end) -> Status {
    while (open < end) {
      auto const n = std::min<std::size_t>(kBranchMax, end - open);
      Entry e{below[open].low, {}, 1};
      LCFS_TRY_ASSIGN(e.ptr, write_branch(std::span{below}.subspan(open, n), level, e.nodes));
      above.push_back(e);
      open += n;
    }
    return {};
  };
  if (shared_ != nullptr && level < shared_->levels.size()) {
    auto const& theirs = shared_->levels[level - 1u];
    auto const& starts = shared_->children[level - 1u];
    std::size_t i = 0;
    for (std::size_t t = 0; t < starts.size(); ++t) {
      auto const from = starts[t], to = t + 1 < starts.size() ? starts[t + 1] : theirs.size();
      while (i < below.size() && below[i].low < theirs[from].low) ++i;
      if (below.size() - i < to - from) continue;
      bool same = true;
      for (auto c = from; same && c < to; ++c) same = below[i + (c - from)].ptr == theirs[c].ptr;
      if (!same) continue;
      LCFS_TRY(close(i));
      above.push_back(shared_->levels[level][t]);
      i += to - from;
      open = i;
    }
  }
  LCFS_TRY(close(below.size()));
  return above;
}

Result<BuiltTree> TreeBuilder::finish() {
  LCFS_TRY(end_template());
  LCFS_TRY(end_leaf());
  BuiltTree built;
  auto level = std::move(leaves_);
  for (std::uint8_t l = 1; level.size() > 1; ++l) {
    LCFS_TRY_ASSIGN(level, build_level(level, l));
  }
  if (!level.empty()) {
    built.root = level[0].ptr;
    built.nodes = level[0].nodes;
  }
  LCFS_TRY(out_.flush());
  built.written = std::move(written_);
  return built;
}

}  // namespace lcfs::fsck
