// SPDX-License-Identifier: Apache-2.0
// Repairs a store, with device/ and format/ only, like the check.  Design: doc/design/fsck.md.
//
// Nothing that either slot refers to is overwritten.  New trees go to blocks that are free for both
// slots (and that no damaged tree uses); one superblock, written to the slot that is not in force,
// publishes all repairs at once; then the other slot gets the same.  So after a power cut or an
// error the store is either as damaged as before or fully repaired.
//
// Repaired are: the slots; the store tree (runs, counters, names and digests are recomputed,
// parents corrected, images with damaged documents or layers removed); trees of layers (mender.h).
// A layer of which nothing is left is removed, unless it has children.  A layer that lost anything
// also loses its digests, so that an import brings it again.  Memory: that of a check with
// Options::collect, 100 bytes per space run, and that of one layer.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "device/device.h"
#include "fsck/check.h"
#include "fsck/vocabulary.h"

namespace lcfs::fsck {

enum class Step : std::uint8_t {
  kSlot,      // rewrite a damaged superblock slot
  kOlder,     // go back to the older slot's state
  kFound,     // use a store tree that a search found
  kStore,     // rebuild the store tree without its damaged parts
  kGraph,     // correct parents and states of layers
  kDerived,   // rebuild runs, counters, names and digests
  kTree,      // repair a layer's tree
  kRemove,    // remove a layer of which nothing is left
  kImage,     // remove an image whose documents or layers are damaged
  kFiles,     // remove files with unreadable data
  kSkeleton,  // drop an unreadable skeleton of a layer
};
[[nodiscard]] std::string_view step_name(Step step);

struct Proposal {
  Step step = Step::kDerived;
  bool safe = false;        // loses nothing: fsck -p does it without asking
  std::uint64_t layer = 0;  // id, 0: none
  std::string layer_name{};
  std::string text{};                  // the problem and the repair
  std::vector<std::string> details{};  // what users will miss or find elsewhere; one per line
};

struct RepairOptions {
  Options check{};
  // Called for each repair; nothing is written before the last answer.
  std::function<bool(Proposal const&)> ask{};
  std::function<void(Report const&)>
      found{};  // gets the report of the check, before the first question; may be empty
  std::size_t max_details = 1000;  // of one proposal; the rest is counted
};

struct Repaired {
  Report before{};
  Report after{};  // of a check at the end if anything was changed, else the same as `before`
  bool changed = false;
  bool declined = false;  // a proposal was declined
};

// Errors: as check(); kNoSpace if there are too few free blocks, and errors of the device.
// Nothing is changed then, unless the very last step failed, which the next run repeats.
Result<Repaired> repair(Device& device, RepairOptions const& options);

}  // namespace lcfs::fsck
