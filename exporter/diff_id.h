// SPDX-License-Identifier: Apache-2.0
// Whether a layer still is what its diff_id says: the tar that an export would write, made again
// and hashed. Reads all that the layer holds of its own; three threads.
#pragma once

#include <atomic>
#include <optional>

#include "engine/store.h"

namespace lcfs::exporter {

// `info` has digests.  Nothing: it can't be told, for the skeleton of the tar was not kept, and a
// new one has other bytes. kCorrupt, kIo: skeleton or data can't be read; kInterrupted: `stop` (may
// be null).
Result<std::optional<bool>> makes_its_diff_id(Store& store, LayerInfo const& info,
                                              std::atomic<bool> const* stop);

}  // namespace lcfs::exporter
