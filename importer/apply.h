// SPDX-License-Identifier: Apache-2.0
// Applies one OCI changeset to one layer: what an import does with each layer of an image, for a
// tar that belongs to no image.
#pragma once

#include <atomic>
#include <string>

#include "engine/store.h"

namespace lcfs::importer {

struct ApplyOptions {
  std::string source{};  // a tar, plain, gzip or zstd; "-": `input`
  std::string name{};    // of the new layer
  int input = 0;         // what "-" means
  std::atomic<bool> const* stop = nullptr;
};

// Makes a read-only layer based on `parent` (0: none) with the changeset applied: whiteouts and
// opaque directories hide what `parent` has, entries replace it.  Freezes `parent` if it is
// writable.  The layer has no diff_id until an image is made of it.  Durable, all or nothing.
// Errors: those of an import; kExists and kInvalid (name).
Result<LayerId> apply_changeset(Store& store, LayerId parent, ApplyOptions const& options);

}  // namespace lcfs::importer
