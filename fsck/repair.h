// SPDX-License-Identifier: Apache-2.0
// Mends a store: device/ and format/ only, as the check.  Design: doc/design.md, "fsck".
//
// Nothing that either slot reaches is overwritten.  New trees go to blocks that are free in both
// slots' eyes (and that no damaged tree was seen to use); one superblock, written to the slot that
// is not in force, publishes all repairs at once; then the other slot gets the same.  So a power
// cut or an error before that leaves the store as damaged as it was, and after it the store is
// mended.
//
// What is mended: the slots; the store tree (what can be derived anew: runs, counters, names,
// digests; parents; images whose documents or layers are damaged go); trees of layers (mender.h).
// A layer of which nothing is left goes, unless others stand on it. What a layer lost, its digests
// no longer vouch for: they go too, so that an import brings the layer again. Memory: that of a
// check with Options::collect, 100 bytes per space run, and the layer in hand.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "device/device.h"
#include "fsck/check.h"

namespace lcfs::fsck {

enum class Step : std::uint8_t {
  kSlot,      // write a damaged superblock slot again
  kOlder,     // go back to the older slot's state
  kFound,     // go back to a tree that was searched for
  kStore,     // write the store tree again without what is damaged in it
  kGraph,     // correct parents and states of layers
  kDerived,   // runs, counters, names and digests anew
  kTree,      // mend a layer's tree
  kRemove,    // remove a layer of which nothing is left
  kImage,     // remove an image whose documents or layers are damaged
  kFiles,     // remove files whose data can't be read
  kSkeleton,  // give up a layer's skeleton that can't be read
};
[[nodiscard]] std::string_view step_name(Step step);

struct Proposal {
  Step step = Step::kDerived;
  bool safe = false;        // loses nothing: done without a question by fsck -p
  std::uint64_t layer = 0;  // id, 0: none
  std::string layer_name{};
  std::string text{};                  // what is wrong, and what would be done
  std::vector<std::string> details{};  // what users will miss, or find elsewhere; one a line
};

struct RepairOptions {
  Options check{};
  // Asked for each repair; nothing is written before the last answer.
  std::function<bool(Proposal const&)> ask{};
  std::function<void(Report const&)>
      found{};  // told what the check found, before the first question; may be empty
  std::size_t max_details = 1000;  // of one proposal; the rest is counted
};

struct Repaired {
  Report before{};
  Report after{};  // of a check at the end, if anything was changed; else the same as `before`
  bool changed = false;
  bool declined = false;  // a proposal was
};

// Errors: as check(); kNoSpace if there are too few free blocks, and whatever the device refuses:
// nothing is changed then, unless the very last step failed, which is repeated by the next run.
Result<Repaired> repair(Device& device, RepairOptions const& options);

}  // namespace lcfs::fsck
