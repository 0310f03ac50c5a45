// SPDX-License-Identifier: Apache-2.0
// Squashing: a layer whose tree is another's, standing where it is wanted.
//
// `what` differs from `parent` in some files; the new layer has those as its own, so what layers
// between the two held and a later one replaced is in it no more.  A block has one owner (I3), so
// data is copied: it costs what differs, in time and in space, and nothing is freed until the
// layers in between are removed.
#pragma once

#include <atomic>
#include <string_view>

#include "engine/store.h"

namespace lcfs {

// A frozen layer called `name` on `parent` (frozen by this if it is open; 0: a base) whose tree
// equals that of `what`, which may be any layer, as it is now.  Durable, all or nothing. kNotFound,
// kExists, kInvalid (name), kInterrupted (`stop`), kNoSpace; kCorrupt and kIo for what can't be
// read.
Result<LayerId> squash_layer(Store& store, LayerId parent, LayerId what, std::string_view name,
                             std::atomic<bool> const& stop);

}  // namespace lcfs
