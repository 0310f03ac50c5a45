// SPDX-License-Identifier: Apache-2.0
// Whether a layer still matches its diff_id: makes and hashes the tar that an export would write.
// Reads all data that the layer owns; uses three threads.
#pragma once

#include <atomic>
#include <optional>

#include "engine/store.h"

namespace lcfs::exporter {

// `info` must have digests.  Nothing: unknown, because the skeleton of the tar was not kept and a
// new tar has other bytes.  Errors: kCorrupt and kIo if skeleton or data cannot be read;
// kInterrupted by `stop` (may be null).
Result<std::optional<bool>> makes_its_diff_id(Store& store, LayerInfo const& info,
                                              std::atomic<bool> const* stop);

}  // namespace lcfs::exporter
