// SPDX-License-Identifier: Apache-2.0
// The digest of a layer's tree: equal trees, equal digest, however they were made.  Definition:
// doc/format.md, "Digest of a tree". Reads and hashes all content: as long as reading the whole
// tree takes.  Memory: about 200 bytes and the path for each name.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "engine/store.h"

namespace lcfs {

struct TreeDigestOptions {
  unsigned threads = 2;
  std::atomic<bool> const* stop = nullptr;  // turns true: kInterrupted
  std::function<void(std::uint64_t done, std::uint64_t of)>
      progress{};  // bytes of content; any thread
};

// Of a frozen layer it is looked up, or computed and recorded if the store can be written; of an
// open one it is that of a checkpoint.
Result<Digest> tree_digest(Store& store, LayerId id, TreeDigestOptions const& options);
// Computed, whatever is recorded.
Result<Digest> compute_tree_digest(Store& store, LayerId id, TreeDigestOptions const& options);

}  // namespace lcfs
