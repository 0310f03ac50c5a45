// SPDX-License-Identifier: Apache-2.0
// `lcfs import --heal`: verifies the layers that the store already has, and rewrites their damaged
// blocks from the archive.
#pragma once

#include "importer/import.h"

namespace lcfs::heal {

struct HealReport {
  std::uint64_t layers = 0;   // layers of the archive that the store had; all were verified
  std::uint64_t damaged = 0;  // damaged blocks of data and nodes
  std::uint64_t healed = 0;   // repaired blocks of data
};

// Uses source, names, platform, threads and stop of `options`.  Leaves nodes of trees alone, and
// layers that the archive does not have.  kUnsupported: the archive comes from a pipe, and what is
// damaged is only known when it has passed.
Result<HealReport> heal_from_archive(Store& store, importer::ImportOptions const& options);

}  // namespace lcfs::heal
