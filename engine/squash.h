// SPDX-License-Identifier: Apache-2.0
// Squashing: makes a layer with the tree of one layer, based on another.
//
// `what` differs from `parent` in some files.  The new layer has those as its own; contents that a
// layer between the two added and a later one replaced are not in it.  A block has one owner (I3),
// so data is copied: time and space follow what differs, and nothing is freed until the layers in
// between are removed.
#pragma once

#include <atomic>
#include <string_view>

#include "engine/store.h"

namespace lcfs {

// Makes a frozen layer called `name`, based on `parent` (0: on nothing), whose tree equals that of
// `what` now.  `what` may be any layer; `parent` is frozen if it is writable.  All or nothing, and
// flushed when it returns.  kNotFound, kExists, kInvalid (name), kInterrupted (`stop`), kNoSpace;
// kCorrupt and kIo for data that cannot be read.
Result<LayerId> squash_layer(Store& store, LayerId parent, LayerId what, std::string_view name,
                             std::atomic<bool> const& stop);

}  // namespace lcfs
