// SPDX-License-Identifier: Apache-2.0
// Writing damaged blocks anew from a second copy of what they held.
//
// The one exception to I1: a block is written in place.  It is sound because the block's content is fixed by the checksum in its
// extent record: what is written is what every tree that reaches the block means, and nobody could read what stood there (I6).  A
// power cut on the way leaves a block that fails its checksum, as before.
#pragma once

#include <cstdint>
#include <span>

#include "engine/import.h"
#include "engine/store.h"
#include "verify/verify.h"

namespace lcfs {

// `received`: a layer as an import took it in, finished.  `damages`: of blocks that the same layer in the store owns, kept from
// other use by a pin.  Those whose file has a block with their checksum at their place in `received` are written; returns how
// many.  Durable.
Result<std::uint64_t> heal_blocks(Store& store, Ingest& received, std::span<Damage const> damages);

}  // namespace lcfs
