// SPDX-License-Identifier: Apache-2.0
// `lcfs import --heal`: layers that the store has already are verified, and what is damaged is
// written anew from the archive.
#pragma once

#include "importer/import.h"

namespace lcfs::importer {

struct HealReport {
  std::uint64_t layers = 0;   // of the archive's that the store had, and were verified
  std::uint64_t damaged = 0;  // what was found: blocks of data and nodes
  std::uint64_t healed = 0;   // blocks of data that are as they should be again
};

// source, names, platform, threads and stop of `options` count.  Nodes of trees, and layers that
// the archive does not have, stay as they are.  kUnsupported: the archive comes from a pipe (what
// is damaged is only known when it has gone by).
Result<HealReport> heal_from_archive(Store& store, ImportOptions const& options);

}  // namespace lcfs::importer
