// SPDX-License-Identifier: Apache-2.0
// Writing damaged blocks of a running store anew from a second copy of what they held.  fsck/heal.h
// is what writes, and why it may.
#pragma once

#include <cstdint>
#include <span>

#include "engine/import.h"
#include "engine/store.h"
#include "verify/verify.h"

namespace lcfs {

// `received`: a layer as an import took it in, finished.  `damages`: of blocks that the same layer
// in the store owns, kept from other use by a pin.  Those whose file has a block with their
// checksum at their place in `received` are written; returns how many.  Durable.
Result<std::uint64_t> heal_blocks(Store& store, Ingest& received, std::span<Damage const> damages);

}  // namespace lcfs
