// SPDX-License-Identifier: Apache-2.0
// One layer: its tree as users see it, and its space.
//
// Every layer's whole tree is walked, shared nodes included: the logical checks (link counts, reachability, counters)
// hold per layer.  What is shared is cheap: nodes come from the cache already checked, findings are told once, data is
// read by the layer whose leaf names it, and a layer whose root is its parent's takes over the parent's result.
// The cost is still layers times tree; walking only what differs from the parent is the way to go beyond that.
// Memory: about 120 bytes per inode and 32 per extent of the one layer in hand.
#pragma once

#include <cstdint>
#include <optional>

#include "fsck/data_check.h"
#include "fsck/finding.h"
#include "fsck/inode_check.h"
#include "fsck/links.h"
#include "fsck/node_source.h"
#include "fsck/space.h"
#include "fsck/store_scan.h"

namespace lcfs::fsck {

struct LayerResult {
  bool complete = false;  // false: damage hid a part of the tree
  std::uint64_t inodes = 0;
  std::uint64_t used_blocks = 0;
  std::uint64_t node_blocks = 0;  // of its own
  std::uint64_t data_blocks = 0;  // of its own
  std::uint64_t last_inode = 0;
};

struct LayerContext {
  Device& device;
  NodeSource& source;
  StoreScan const& scan;
  SuperblockInfo const& superblock;
  Findings& findings;
  bool data = true;
  unsigned threads = 2;
};

class LayerCheck {
 public:
  LayerCheck(LayerContext const& context, LayerEntry const& layer);
  // parent: the result of the layer's parent if that has the same root, to be taken over.
  LayerResult run(LayerResult const* same_as_parent);

  [[nodiscard]] std::uint64_t data_blocks_checked() const { return data_.blocks_checked(); }

 private:
  void walk();
  bool enter_node(std::uint64_t block, NodeHeader const& header, std::uint64_t parent_owner);
  void damaged(Error const& error, NodePtr const& ptr, Key const& low, Key const& high);
  void take_orphan(Record const& r);
  void take_extent(Record const& r, ExtentInfo const& extent);
  [[nodiscard]] bool inherited_as_is(Record const& r, ExtentInfo const& extent);
  void check_links();
  void check_space();
  void check_counters();
  void bad_block(BadBlock const& b);
  void say(Code code, Severity severity, std::uint64_t inode, std::uint64_t at, std::string text);
  [[nodiscard]] std::string path(std::uint64_t inode);

  LayerContext const& c_;
  LayerEntry const& layer_;
  Links links_;
  InodeCheck inodes_;
  DataCheck data_;
  std::vector<Use> uses_;
  LayerResult result_{};
};

}  // namespace lcfs::fsck
