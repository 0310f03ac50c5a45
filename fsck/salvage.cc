// SPDX-License-Identifier: Apache-2.0
#include "fsck/salvage.h"

#include <algorithm>
#include <unordered_set>

#include "fsck/block_map.h"

namespace lcfs::fsck {
namespace {

struct Range {
  Key low{}, high{};  // [low, high); high == kMaxKey: no bound
  bool branch = false;
};

bool inside(Range const& r, Key const& k) {
  return !(k < r.low) && (r.high == kMaxKey || k < r.high);
}

// Every sound node of `owner` in its runs, according to its header: address, owner, store,
// generation, checksum.
class NodeScan {
 public:
  NodeScan(Device& device, SuperblockInfo const& superblock, std::uint64_t owner)
      : device_(device),
        superblock_(superblock),
        owner_(owner),
        buffer_(kReadBlocks * kBlockSize) {}

  template <class Take>
  void run(RunEntry const& r, Take const& take) {
    for (std::uint64_t done = 0; done + kNodeBlocks <= r.count;) {
      auto const n = std::min<std::uint64_t>(kReadBlocks, r.count - done);
      bool const whole =
          device_.read((r.start + done) * kBlockSize, buffer_.span().first(n * kBlockSize)).ok();
      for (std::uint64_t b = 0; b + kNodeBlocks <= n; ++b) {
        auto const bytes = buffer_.span().subspan(b * kBlockSize, kNodeSize);
        // One bad sector must not hide what the rest of a large read holds.
        if (!whole && !device_.read((r.start + done + b) * kBlockSize, bytes)) continue;
        if (auto const ptr = node_at(bytes, r.start + done + b))
          take(*ptr, NodeReader(bytes.data()));
      }
      // A node may reach over the end of a read.
      done += n < kReadBlocks ? n : n - (kNodeBlocks - 1);
    }
  }

 private:
  static constexpr std::uint64_t kReadBlocks = 256;

  std::optional<NodePtr> node_at(std::span<std::byte const> bytes, std::uint64_t block) const {
    auto const& h = NodeReader(bytes.data()).header();
    if (h.magic.get() != kNodeMagic || h.block.get() != block || h.owner.get() != owner_ ||
        h.level > kMaxLevel || h.generation.get() > superblock_.generation)
      return std::nullopt;
    NodePtr ptr;
    ptr.block.set(block);
    ptr.generation = h.generation;
    ptr.checksum = h.checksum;
    NodeExpectation expect;
    expect.block = block;
    expect.generation = ptr.generation.get();
    expect.checksum = ptr.checksum.get();
    expect.max_level = h.level;
    expect.store = superblock_.uuid;
    if (!check_node(bytes, expect, superblock_.total_blocks) || h.count.get() == 0)
      return std::nullopt;
    return ptr;
  }

  Device& device_;
  SuperblockInfo const& superblock_;
  std::uint64_t owner_;
  AlignedBuffer buffer_;
};

// Leaves of a tree whose branches may be damaged, without reading the leaves.
struct LeafRef {
  Range range{};
  NodePtr ptr{};
};
std::vector<LeafRef> leaves_of(NodeSource& source, NodePtr const& root) {
  struct Todo {
    NodePtr ptr;
    unsigned level;
    Range range;
  };
  std::vector<LeafRef> leaves;
  std::vector<Todo> todo{{root, NodeSource::kAnyLevel, {Key{}, kMaxKey, false}}};
  while (!todo.empty()) {
    auto const t = todo.back();
    todo.pop_back();
    if (t.level == 0) {
      leaves.push_back({t.range, t.ptr});
      continue;
    }
    auto const node = t.ptr.block.get() == 0 ? Result<NodeSource::Node>(NodeSource::Node{})
                                             : source.get(t.ptr, t.level);
    if (!node || !*node) continue;
    NodeReader const reader((*node)->data());
    if (reader.leaf()) {
      leaves.push_back({t.range, t.ptr});
      continue;
    }
    for (auto i = reader.count(); i-- > 0;) {
      auto const low = i == 0 ? t.range.low : reader.key(i);
      auto const high = i + 1 < reader.count() ? reader.key(i + 1) : t.range.high;
      todo.push_back({reader.entry(i).child, reader.header().level - 1u, {low, high, false}});
    }
  }
  return leaves;
}

}  // namespace

Salvage salvage(Device& device, NodeSource& source, SuperblockInfo const& superblock,
                LayerEntry const& layer, std::span<RunEntry const> runs,
                std::span<Piece const> skeleton, LayerInfo const* parent,
                Salvage const* of_parent) {
  Salvage out;
  std::unordered_set<std::uint64_t> met;
  std::vector<Range> lost;
  std::vector<std::uint64_t> branches_lost;  // ranges of lost branches
  WalkHooks hooks;
  hooks.on_node = [&](std::uint64_t block, NodeHeader const&, std::uint64_t) {
    out.nodes.push_back(block);
    met.insert(block);
    return true;
  };
  hooks.on_damage = [&](Error const&, NodePtr const& ptr, unsigned level, Key const& low,
                        Key const& high) {
    met.insert(ptr.block.get());  // a sound node in this place is not the layer's: its pointer
                                  // expects another one
    if (auto const b = ptr.block.get();
        b >= kReservedBlocks && b <= superblock.total_blocks - kNodeBlocks)
      out.nodes.push_back(b);
    lost.push_back({low, high, level != 0});
    if (level != 0) branches_lost.push_back(ptr.block.get());
  };
  TreeWalk walk(source, layer.info.root, layer.info.id, std::move(hooks));
  BlockMap known;  // own blocks: sound nodes, and the data in their extents
  auto const know_data = [&](Key const& key, Bytes value) {
    if (key.kind != kExtent) return;
    auto const e = parse_extent(key, value, superblock.total_blocks);
    if (e && e->owner == layer.info.id) known.claim_rest(e->block, e->count, 1);
  };
  while (auto const r = walk.next()) know_data(r->key, r->value);
  out.complete = walk.complete();
  std::erase_if(lost, [](Range const& r) { return !r.branch; });  // a leaf has nothing below it
  if (lost.empty()) return out;

  auto const below_lost = [&lost](Key const& first, Key const& last) {
    return std::any_of(lost.begin(), lost.end(),
                       [&](Range const& r) { return inside(r, first) && inside(r, last); });
  };
  struct Candidate {
    StrayLeaf leaf{};
    std::uint64_t generation = 0;
  };
  std::vector<Candidate> found;
  NodeScan scan(device, superblock, layer.info.id);
  for (auto const& r : runs)
    scan.run(r, [&](NodePtr const& ptr, NodeReader const& leaf) {
      known.claim_rest(ptr.block.get(), kNodeBlocks, 1);
      if (!leaf.leaf()) return;
      for (std::uint32_t i = 0; i < leaf.count(); ++i) know_data(leaf.key(i), leaf.value(i));
      StrayLeaf const stray{leaf.key(0), leaf.key(leaf.count() - 1), ptr};
      if (!met.contains(ptr.block.get()) && below_lost(stray.first, stray.last))
        found.push_back({stray, ptr.generation.get()});
    });
  auto const by_key = [](StrayLeaf const& a, StrayLeaf const& b) { return a.first < b.first; };
  // Inexact runs may hold leaves of an older state: of two that overlap, the later one counts.
  std::sort(found.begin(), found.end(),
            [](Candidate const& a, Candidate const& b) { return a.generation > b.generation; });
  auto const overlaps = [&out, &by_key](StrayLeaf const& s) {  // out.leaves is sorted
    auto const it = std::lower_bound(out.leaves.begin(), out.leaves.end(), s, by_key);
    return (it != out.leaves.end() && !(s.last < it->first)) ||
           (it != out.leaves.begin() && !(std::prev(it)->last < s.first));
  };
  auto const put = [&](StrayLeaf const& s) {
    if (overlaps(s)) return;
    out.leaves.insert(std::lower_bound(out.leaves.begin(), out.leaves.end(), s, by_key), s);
    out.nodes.push_back(s.ptr.block.get());
  };
  for (auto const& c : found) put(c.leaf);
  if (parent == nullptr) return out;
  for (auto const& s : skeleton) known.claim_rest(s.start, s.count, 1);
  for (auto const block : branches_lost) known.claim_rest(block, kNodeBlocks, 1);
  out.doubtful = std::any_of(runs.begin(), runs.end(),
                             [&](RunEntry const& r) { return !known.owns(1, r.start, r.count); });
  if (out.doubtful) return out;

  // Leaves shared with the parent: those in whose range the layer has none.
  std::vector<StrayLeaf> shared;
  auto const own = out.leaves;
  auto const has_own = [&own](Range const& r) {
    auto const it = std::lower_bound(own.begin(), own.end(), r.low,
                                     [](StrayLeaf const& s, Key const& k) { return s.last < k; });
    return it != own.end() && (r.high == kMaxKey || it->first < r.high);
  };
  for (auto const& leaf : leaves_of(source, parent->root)) {
    if (met.contains(leaf.ptr.block.get()) || has_own(leaf.range)) continue;
    auto const node = source.get(leaf.ptr, 0);
    if (!node) continue;
    NodeReader const reader((*node)->data());
    if (reader.count() == 0) continue;
    StrayLeaf const stray{reader.key(0), reader.key(reader.count() - 1), leaf.ptr};
    if (below_lost(stray.first, stray.last)) shared.push_back(stray);
  }
  if (of_parent != nullptr)
    for (auto const& s : of_parent->leaves)
      if (!met.contains(s.ptr.block.get()) && below_lost(s.first, s.last)) shared.push_back(s);
  for (auto const& s : shared) put(s);
  std::uint64_t inodes = 0;
  RecordStream all(source, layer.info.root, layer.info.id, out.leaves);
  while (auto const r = all.next()) inodes += r->key.kind == kInode ? 1 : 0;
  out.doubtful = inodes > layer.info.inodes;
  if (out.doubtful) out.leaves = own;
  return out;
}

RecordStream::RecordStream(NodeSource& source, NodePtr const& root, std::uint64_t owner,
                           std::span<StrayLeaf const> strays)
    : source_(source), walk_(source, root, owner, {}), strays_(strays) {}

std::optional<WalkedRecord> RecordStream::next_stray() {
  while (leaf_ < strays_.size()) {
    if (!node_) {
      auto node = source_.get(strays_[leaf_].ptr, 0);
      if (!node) {
        ++leaf_;
        continue;
      }
      node_ = *std::move(node);
      slot_ = 0;
    }
    NodeReader const reader(node_->data());
    if (slot_ < reader.count()) {
      auto r = record_of(reader, slot_);
      r.after_gap = slot_ == 0;
      ++slot_;
      return r;
    }
    node_.reset();
    ++leaf_;
  }
  return std::nullopt;
}

std::optional<WalkedRecord> RecordStream::next() {
  if (std::exchange(take_walked_, false)) walked_ = walk_.next();
  if (std::exchange(take_stray_, false)) stray_ = next_stray();
  if (!walked_ && !stray_) return std::nullopt;
  if (walked_ && stray_ && walked_->key == stray_->key)
    take_stray_ = true;  // the record of the tree itself counts
  if (!stray_ || (walked_ && !(stray_->key < walked_->key))) {
    take_walked_ = true;
    return walked_;
  }
  take_stray_ = true;
  return stray_;
}

}  // namespace lcfs::fsck
