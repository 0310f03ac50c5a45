// SPDX-License-Identifier: Apache-2.0
// Rewrites damaged blocks of a store in use from a second copy of their contents.  fsck/healer.h
// does the writing and explains why that is safe.
#pragma once

#include <cstdint>
#include <span>

#include "engine/import.h"
#include "engine/store.h"
#include "verify/verify.h"

namespace lcfs::heal {

// `received`: a finished layer of an import.  `damages`: damaged blocks of the same layer in the
// store, which owns them; the caller's pin keeps them from being reused.  Rewrites each block whose
// file has, at the same offset in `received`, a block with the recorded checksum; returns how many.
// They are durable then.
Result<std::uint64_t> heal_blocks(Store& store, Ingest& received,
                                  std::span<verify::Damage const> damages);

}  // namespace lcfs::heal
