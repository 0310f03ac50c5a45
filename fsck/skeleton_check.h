// SPDX-License-Identifier: Apache-2.0
// Skeletons of tars: their records, which stand in the store tree, and the blocks they use, which
// are the layer's.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "format/records.h"
#include "fsck/node_source.h"

namespace lcfs::fsck {

struct Use;  // fsck/space.h, which stands on this
class DataCheck;

// The records of one skeleton after the other, as a walk of the store tree meets them.
class SkeletonScan {
 public:
  using Say = std::function<void(std::uint64_t at, std::string text, std::uint64_t layer)>;
  explicit SkeletonScan(Say say) : say_(std::move(say)) {}

  void take_record(SkeletonInfo const& info, std::uint64_t at);
  void take_extent(std::uint64_t layer, std::uint64_t offset, ExtentInfo const& extent,
                   std::uint64_t at);
  // Records between may be missing: the one at hand is not judged.
  void gap();
  void finish() { end(); }

  struct Entry {
    std::uint64_t blocks = 0;
    std::uint64_t at = 0;  // of its record
    bool sound = false;    // it and all its parts are there
  };
  [[nodiscard]] std::map<std::uint64_t, Entry> const& entries() const {
    return entries_;
  }  // by layer

 private:
  void end();
  Say say_;
  std::map<std::uint64_t, Entry> entries_{};
  std::uint64_t layer_ = 0;  // at hand; 0: none
  std::uint64_t size_ = 0;   // that its record tells
  bool judge_ = true;
};

// What the skeleton of `layer` uses goes to `uses`; where `data` is given, its blocks are checked
// by that.  As inode kSkeletonUse.
void use_skeleton(NodeSource& source, NodePtr const& store_root, std::uint64_t total_blocks,
                  std::uint64_t layer, std::vector<Use>& uses, DataCheck* data);

}  // namespace lcfs::fsck
