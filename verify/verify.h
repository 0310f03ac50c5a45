// SPDX-License-Identifier: Apache-2.0
// Verifies layers: the checksum of every node and data block, the tree against its recorded digest,
// and the tar against its diff_id.  Works on a store in use, as of a checkpoint.  Reads what
// several layers share once, and reports its damage for the first of them.  Time: one pass over the
// nodes of each layer, then one over its data in the order of the device; the digests read the
// content once more each. Memory: 16 bytes for each node and extent of all layers, and that of
// DataCheck.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/store.h"

namespace lcfs::verify {

struct Damage {
  LayerId layer = 0;              // in whose tree it was found
  LayerId owner = 0;              // owner of the block; 0: unknown
  std::string path{};             // of the file; "" if it is not a file or its path is unknown
  std::uint64_t inode = 0;        // 0: a node, or the skeleton of the tar
  std::uint64_t file_offset = 0;  // of a block of data
  std::uint64_t device_offset = kNoOffset;
  std::uint32_t expected = 0;  // its checksum
  std::string text{};
};

struct VerifiedLayer {
  LayerInfo info{};
  std::uint64_t nodes = 0,
                data_blocks = 0;  // read for this layer; shared ones count for the first layer only
  std::uint64_t damaged = 0;
  enum Check : std::uint8_t { kNotChecked, kSame, kDifferent } digest = kNotChecked, diff_id = kNotChecked;
  std::optional<Digest> tree{};  // if it was computed
};

struct VerifyOptions {
  unsigned threads = 2;
  // A recorded digest of a frozen layer is compared with the computed one; with `record`, a missing
  // one is computed and recorded.
  bool record = false;
  std::atomic<bool> const* stop = nullptr;  // kInterrupted after it becomes true
  std::function<void(std::string_view layer, std::uint64_t done, std::uint64_t of)> progress{};
  // Whether the layer still matches its diff_id (exporter/diff_id.h); nothing: unknown.
  std::function<Result<std::optional<bool>>(Store&, LayerInfo const&)> diff_id{};
};

// `ids` in any order; results are in ascending order, without layers that are removed meanwhile.
// Damage is not an error.
Result<std::vector<VerifiedLayer>> verify_layers(Store& store, std::vector<LayerId> ids,
                                                 VerifyOptions const& options,
                                                 std::function<void(Damage const&)> const& tell);

}  // namespace lcfs::verify
