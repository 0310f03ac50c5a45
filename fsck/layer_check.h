// SPDX-License-Identifier: Apache-2.0
// Checks one layer: its tree as users see it, and its space.
//
// The logical checks (link counts, reachability, counters) hold per layer, so a whole walk visits a
// layer's whole tree, shared nodes included.  For a layer with a sound parent the changes are
// checked first (layer_delta.h): if they are sound, so is the layer, and it needs no walk.  So in a
// store without damage the cost is that of the differences.  Memory: about 120 bytes per inode and
// 32 per extent of one layer.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "fsck/data_check.h"
#include "fsck/finding.h"
#include "fsck/inode_check.h"
#include "fsck/layer_delta.h"
#include "fsck/links.h"
#include "fsck/node_source.h"
#include "fsck/owners.h"
#include "fsck/store_scan.h"

namespace lcfs::fsck {

struct LayerResult {
  bool complete = false;  // false: damage hides a part of the tree
  std::uint64_t inodes = 0;
  std::uint64_t used_blocks = 0;
  std::uint64_t node_blocks = 0;  // of its own
  std::uint64_t data_blocks = 0;  // of its own
  std::uint64_t last_inode = 0;
  bool sound = false;         // it has no findings at all
  bool tree_sound = true;     // its tree itself is sound; counters, runs or file data may be
                              // wrong
  bool derived_sound = true;  // counters and runs are sound as well
};

struct LayerContext {
  Device& device;
  NodeSource& source;
  StoreScan const& scan;
  SuperblockInfo const& superblock;
  Findings& findings;
  bool data = true;
  unsigned threads = 2;
  bool delta = true;
  bool collect = false;  // keep `uses` for a repair
  std::atomic<bool> const* stop = nullptr;
};

class LayerCheck {
 public:
  LayerCheck(LayerContext const& context, LayerEntry const& layer);
  // parent: the result of the layer's parent, if the layer is really based on it.  same: both have
  // the same root.  delta: the changes relative to that parent, if they are certainly sound.
  LayerResult run(LayerResult const* parent, bool same,
                  std::unique_ptr<LayerDelta> delta = nullptr);

  [[nodiscard]] std::uint64_t data_blocks_checked() const { return data_.blocks_checked(); }
  // The nodes and extents of its tree; only those it owns if it was just compared with its parent;
  // none if it has its parent's root.
  [[nodiscard]] std::vector<Use> const& uses() const { return uses_; }
  [[nodiscard]] std::vector<BadBlock> const& bad_data() const { return bad_; }

 private:
  void walk();
  bool take_delta(LayerResult const& parent, LayerDelta& delta);
  LayerResult finish();
  bool enter_node(std::uint64_t block, NodeHeader const& header, std::uint64_t parent_owner);
  void damaged(Error const& error, NodePtr const& ptr, Key const& low);
  void take_orphan(WalkedRecord const& r);
  void take_extent(WalkedRecord const& r, ExtentInfo const& extent);
  [[nodiscard]] bool inherited_as_is(WalkedRecord const& r, ExtentInfo const& extent);
  void check_links();
  void check_space();
  void check_counters();
  void bad_block(BadBlock const& b);
  void say(Code code, Severity severity, std::uint64_t inode, std::uint64_t at, std::string text);
  void say_aside(Code code, Severity severity, std::uint64_t inode, std::uint64_t at,
                 std::string text);  // the tree is sound
  [[nodiscard]] std::string path(std::uint64_t inode);

  LayerContext const& c_;
  LayerEntry const& layer_;
  Links links_;
  InodeCheck inodes_;
  DataCheck data_;
  std::vector<Use> uses_;
  std::vector<BadBlock> bad_;
  LayerResult result_{};
  bool said_ = false;
};

}  // namespace lcfs::fsck
