// SPDX-License-Identifier: Apache-2.0
// Walks two trees side by side.  A node that both have is at the same level in both, whatever their
// shapes.  So comparing the pointers of a level finds all that is shared below it: its records are
// in both trees and cancel out.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "engine/diff/diff_impl.h"

namespace lcfs {
namespace {

struct Side {
  LayerSnapshot const* layer = nullptr;
  unsigned top = 0;
  std::vector<NodePtr> level{};  // nodes to look at, in key order
  std::uint64_t opened = 0;
};

class NodeDiff {
 public:
  NodeDiff(NodeCache& cache, std::uint64_t total_blocks, LayerSnapshot const& a,
           LayerSnapshot const& b, std::uint64_t& nodes)
      : cache_(cache), most_(total_blocks / kNodeBlocks), nodes_(nodes) {
    a_.layer = &a;
    b_.layer = &b;
  }

  Status run(std::function<Status(RecordChange const&)> const& take) {
    if (a_.layer->info().root == b_.layer->info().root) return {};
    LCFS_TRY(enter(a_));
    LCFS_TRY(enter(b_));
    for (unsigned level = std::max(a_.top, b_.top);; --level) {
      drop_shared(level);
      if (level == 0) break;
      LCFS_TRY(open(a_, level));
      LCFS_TRY(open(b_, level));
    }
    return merge(take);
  }

 private:
  Result<NodeRef> get(Side& side, NodePtr const& ptr, unsigned level, bool exact) {
    // A tree has no node twice.  One that seems to is damaged, and must not be an endless loop.
    if (++side.opened > most_) {
      return side.layer->trouble(Error::corrupt("it has more nodes than the store"), "its tree");
    }
    ++nodes_;
    auto node = cache_.get(ptr, static_cast<std::uint8_t>(level), exact);
    if (!node)
      return side.layer->trouble(std::move(node).error(),
                                 fmt::format("the node at block {}", ptr.block.get()));
    return node;
  }

  // Nodes that were written together are mostly neighbours.
  void read_ahead(Side const& side, std::size_t at, unsigned level) {
    constexpr std::size_t kAhead = 128;  // 2 MiB of each side
    if (at % kAhead != 0) return;
    cache_.read_ahead(std::span(side.level).subspan(at, std::min(kAhead, side.level.size() - at)),
                      static_cast<std::uint8_t>(level));
  }

  Status enter(Side& side) {
    LCFS_TRY_ASSIGN(auto const node, get(side, side.layer->info().root, kMaxLevel, false));
    side.top = node->read().header().level;
    side.level = {side.layer->info().root};
    return {};
  }

  void drop_shared(unsigned level) {
    if (level > a_.top || level > b_.top) return;  // one tree has nothing there
    std::unordered_map<std::uint64_t, NodePtr> in_b;
    for (auto const& p : b_.level) in_b.emplace(p.block.get(), p);
    std::unordered_set<std::uint64_t> shared;
    std::erase_if(a_.level, [&](NodePtr const& p) {
      auto const it = in_b.find(p.block.get());
      bool const same = it != in_b.end() && it->second == p;
      if (same) shared.insert(p.block.get());
      return same;
    });
    std::erase_if(b_.level, [&](NodePtr const& p) { return shared.contains(p.block.get()); });
  }

  // Replaces the nodes of `level` by their children.
  Status open(Side& side, unsigned level) {
    if (level > side.top) return {};
    std::vector<NodePtr> below;
    for (std::size_t i = 0; i < side.level.size(); ++i) {
      read_ahead(side, i, level);
      LCFS_TRY_ASSIGN(auto const node, get(side, side.level[i], level, true));
      auto const r = node->read();
      for (std::uint32_t k = 0; k < r.count(); ++k) below.push_back(r.entry(k).child);
    }
    side.level = std::move(below);
    return {};
  }

  // The records of a side's leaves.
  struct Stream {
    NodeRef leaf{};
    std::size_t next = 0;
    std::uint32_t index = 0;
    [[nodiscard]] Key key() const { return leaf->read().key(index); }
    [[nodiscard]] Bytes value() const { return leaf->read().value(index); }
  };
  Status settle(Side& side, Stream& s) {
    while (!s.leaf || s.index >= s.leaf->read().count()) {
      s.leaf = nullptr;
      if (s.next == side.level.size()) return {};
      read_ahead(side, s.next, 0);
      LCFS_TRY_ASSIGN(s.leaf, get(side, side.level[s.next++], 0, true));
      s.index = 0;
    }
    return {};
  }

  Status merge(std::function<Status(RecordChange const&)> const& take) {
    Stream a, b;
    for (;;) {
      LCFS_TRY(settle(a_, a));
      LCFS_TRY(settle(b_, b));
      if (!a.leaf && !b.leaf) return {};
      RecordChange c;
      bool const from_a = a.leaf && (!b.leaf || a.key() <= b.key());
      bool const from_b = b.leaf && (!a.leaf || b.key() <= a.key());
      if (from_a) c.a = a.value();
      if (from_b) c.b = b.value();
      c.key = from_a ? a.key() : b.key();
      bool const same = from_a && from_b && c.a->size() == c.b->size() &&
                        (c.a->empty() || std::memcmp(c.a->data(), c.b->data(), c.a->size()) == 0);
      if (!same) LCFS_TRY(take(c));
      a.index += from_a ? 1 : 0;
      b.index += from_b ? 1 : 0;
    }
  }

  NodeCache& cache_;
  std::uint64_t const most_;
  std::uint64_t& nodes_;
  Side a_, b_;
};

}  // namespace

Status diff_records(NodeCache& cache, std::uint64_t total_blocks, LayerSnapshot const& a,
                    LayerSnapshot const& b, std::uint64_t& nodes,
                    std::function<Status(RecordChange const&)> const& take) {
  return NodeDiff(cache, total_blocks, a, b, nodes).run(take);
}

}  // namespace lcfs
