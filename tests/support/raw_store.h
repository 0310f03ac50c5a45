// SPDX-License-Identifier: Apache-2.0
// A second writer of the format, for tests: builds small stores record by record, with no engine
// code, so that fsck can be tested as a stranger and every rule can be broken on purpose.
//
//   RawStore s;
//   auto base = s.add_layer("base", 0);
//   s.file(base, s.root(base), "hello", "world");
//   s.seal();            // writes the layers' trees, fills store_records
//   s.store_records...   // break something
//   s.write();           // store tree and superblock
//   fsck::check(s.device(), {});
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "device/device.h"
#include "format/node.h"
#include "format/records.h"
#include "format/superblock.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

using Records = std::map<Key, std::string>;

class RawStore {
 public:
  explicit RawStore(std::uint64_t blocks = kMinStoreBlocks, std::uint32_t records_per_leaf = 12);

  struct Leaf {
    Key low{};
    Records records{};
    NodePtr ptr{};
  };
  struct RawLayer {
    LayerInfo info{};
    Records records{};
    std::vector<Leaf> leaves{};  // as written; a child reuses those that are the same
    std::map<std::uint64_t, std::uint64_t> own{};  // extra own blocks: start -> count (nodes)
  };

  // A layer; a child starts with all its parent's records, and freezes the parent.  It must be
  // sealed before.
  std::uint64_t add_layer(std::string_view name, std::uint64_t parent);
  [[nodiscard]] RawLayer& layer(std::uint64_t id) { return layers_.at(id); }
  [[nodiscard]] std::uint64_t root(std::uint64_t id) { return layer(id).info.root_inode; }
  void freeze(std::uint64_t id) { layer(id).info.state = LayerState::kFrozen; }

  std::uint64_t dir(std::uint64_t layer, std::uint64_t parent, std::string_view name);
  // Data up to kInlineMax stands inline, more in extents; blocks of zeroes are holes.
  std::uint64_t file(std::uint64_t layer, std::uint64_t parent, std::string_view name,
                     std::string_view data);
  std::uint64_t symlink(std::uint64_t layer, std::uint64_t parent, std::string_view name,
                        std::string_view target);
  void link(std::uint64_t layer, std::uint64_t inode, std::uint64_t parent, std::string_view name);
  void unlink(std::uint64_t layer, std::uint64_t inode, std::uint64_t parent,
              std::string_view name);
  void xattr(std::uint64_t layer, std::uint64_t inode, std::string_view name,
             std::string_view value);
  std::uint64_t orphan(std::uint64_t layer);  // a removed but open file
  std::uint64_t add_image(std::string_view name, std::uint64_t top, std::string_view config,
                          std::string_view manifest);

  [[nodiscard]] InodeInfo inode(std::uint64_t layer, std::uint64_t inode);
  void set_inode(std::uint64_t layer, std::uint64_t inode, InodeInfo const& info);

  void seal_layer(std::uint64_t id);  // writes its tree
  void seal();   // all layers that are not sealed yet; then fills store_records
  void write();  // store tree, then the superblock into the slot of `superblock.slot`

  [[nodiscard]] Device& device() { return *device_; }
  // Flips bits of one byte on the device.
  void flip(std::uint64_t at, std::uint8_t bits = 1);
  std::uint64_t allocate(std::uint64_t blocks);
  [[nodiscard]] std::string read(std::uint64_t at, std::size_t size);
  void put(std::uint64_t at, std::string_view bytes);  // at: a multiple of 4096

  SuperblockInfo superblock{};
  Records store_records{};
  std::vector<std::uint64_t> store_nodes{};  // first blocks, after write()

 private:
  NodePtr write_leaf(Records const& records, std::uint64_t owner);
  NodePtr write_branches(std::vector<std::pair<Key, NodePtr>> children, std::uint64_t owner,
                         std::vector<std::uint64_t>& nodes);
  std::uint64_t new_inode(std::uint64_t layer, std::uint32_t mode);
  void data(std::uint64_t layer, std::uint64_t inode, std::string_view bytes);
  static std::uint64_t free_probe(Records const& records, Key key, std::uint64_t step);

  std::unique_ptr<Device> device_;
  std::uint32_t per_leaf_;
  std::uint64_t next_block_ = kReservedBlocks;
  std::map<std::uint64_t, RawLayer> layers_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> allocated_;
};

}  // namespace lcfs::test
