// SPDX-License-Identifier: Apache-2.0
// The digest of a layer's tree: equal trees have equal digests, however they were made. Definition:
// doc/format.md, "Digest of a tree". Reads and hashes all content, so it takes as long as reading
// the whole tree.  Memory: about 200 bytes and the path for each name.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "engine/store.h"

namespace lcfs::verify {

struct TreeDigestOptions {
  unsigned threads = 2;
  std::atomic<bool> const* stop = nullptr;  // kInterrupted after it becomes true
  std::function<void(std::uint64_t done, std::uint64_t of)>
      progress{};  // bytes of content; any thread
};

// For a frozen layer: looks the digest up, or computes it and records it if the store is writable.
// For a writable layer: computes the digest as of a checkpoint.
Result<Digest> tree_digest(Store& store, LayerId id, TreeDigestOptions const& options);
// Computes the digest, even if one is recorded.
Result<Digest> compute_tree_digest(Store& store, LayerId id, TreeDigestOptions const& options);

}  // namespace lcfs::verify
