// SPDX-License-Identifier: Apache-2.0
// Checks skeletons of tars: their records in the store tree, and their blocks, which the layer
// owns.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "format/records.h"
#include "fsck/node_source.h"
#include "fsck/vocabulary.h"

namespace lcfs::fsck {

struct Use;  // fsck/owners.h, which includes this header
class DataCheck;

// Gets the records of one skeleton after the other, in the order of a walk of the store tree.
class SkeletonScan {
 public:
  using Say = std::function<void(std::uint64_t at, std::string text, std::uint64_t layer)>;
  explicit SkeletonScan(Say say) : say_(std::move(say)) {}

  void take_record(SkeletonInfo const& info, std::uint64_t at);
  void take_extent(std::uint64_t layer, std::uint64_t offset, ExtentInfo const& extent,
                   std::uint64_t at);
  // Records in between may be missing: the current skeleton is not judged.
  void gap();
  void finish() { end(); }

  struct Entry {
    std::uint64_t blocks = 0;
    std::uint64_t at = 0;  // of its record
    bool sound = false;    // it is complete
  };
  [[nodiscard]] std::map<std::uint64_t, Entry> const& entries() const {
    return entries_;
  }  // by layer

 private:
  void end();
  Say say_;
  std::map<std::uint64_t, Entry> entries_{};
  std::uint64_t layer_ = 0;  // current; 0: none
  std::uint64_t size_ = 0;   // from its record
  bool judge_ = true;
};

// Adds the blocks of the skeleton of `layer` to `uses` and, if given, to `data` for checking, as
// inode kSkeletonUse.
void use_skeleton(NodeSource& source, NodePtr const& store_root, std::uint64_t total_blocks,
                  std::uint64_t layer, std::vector<Use>& uses, DataCheck* data);

}  // namespace lcfs::fsck
