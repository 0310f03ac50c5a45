// SPDX-License-Identifier: Apache-2.0
// Puts a skeleton from an Ingest into the blocks of the layer that was stacked from it.
#pragma once

#include <vector>

#include "engine/import/delta_impl.h"
#include "engine/import/ingest.h"
#include "engine/import/skeleton_stream.h"
#include "engine/store/layer_table.h"

namespace lcfs {

struct PlacedSkeleton {
  SkeletonInfo info{};                    // layer and first_inode are the caller's to set
  std::vector<SkeletonExtent> extents{};  // none: the layer has no skeleton
  [[nodiscard]] std::uint64_t blocks() const {
    std::uint64_t n = 0;
    for (auto const& e : extents) n += e.sums.size();
    return n;
  }
};

// Bodies of files that the tree did not keep, because a later entry replaced them, go into the
// skeleton as they are: they are read back from where they were placed, one after the other.  The
// ingest is finished and its delta was stacked; all its blocks are still there.
class SkeletonPlacer {
 public:
  SkeletonPlacer(StoreImpl& store, WriteQueue& queue, OwnerSpace& space, Delta::Impl& delta,
                 ContentLog& content)
      : store_(store), queue_(queue), space_(space), delta_(delta), content_(content) {}

  // The blocks are taken from `space`, and are on the device when it returns.
  Result<PlacedSkeleton> place(SkeletonWriter& skeleton);

 private:
  [[nodiscard]] bool is_kept(std::uint64_t file) const {
    return delta_.files[file].state == Delta::Impl::File::kNew;
  }
  [[nodiscard]] bool all_kept() const;
  Result<std::unique_ptr<SkeletonWriter>> with_lost_bodies(SkeletonWriter& skeleton);
  Status copy_body(SkeletonPiece const& piece, SkeletonWriter& into);
  Status next_extent();
  Status write(ContentLog& log, PlacedSkeleton& into);

  StoreImpl& store_;
  WriteQueue& queue_;
  OwnerSpace& space_;
  Delta::Impl& delta_;
  ContentLog& content_;

  // The lost file being read: its extents come in order, and so do the pieces of its body.
  std::uint64_t file_ = ~std::uint64_t{0};
  std::uint64_t log_at_ = 0;  // of what follows the extent at hand
  PlacedExtent extent_{};     // count 0: there are no more
  std::vector<std::uint32_t> sums_{};
  std::vector<std::byte> small_{};  // all of an inline file
  AlignedBuffer buffer_{};          // the extent's blocks
  bool loaded_ = false;
};

}  // namespace lcfs
