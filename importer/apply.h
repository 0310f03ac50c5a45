// SPDX-License-Identifier: Apache-2.0
// One OCI changeset onto one layer: what an import does with each layer of an image, for a tar that
// belongs to none.
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

// A frozen layer on `parent` (frozen by this if it is open; 0: a base) that is `parent` with the
// changeset applied: whiteouts and opaque directories act on `parent`, entries replace what it has.
// It has no diff_id until an image is made of it.  Durable, all or nothing. Errors: those of an
// import; kExists and kInvalid (name).
Result<LayerId> apply_changeset(Store& store, LayerId parent, ApplyOptions const& options);

}  // namespace lcfs::importer
