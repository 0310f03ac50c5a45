// SPDX-License-Identifier: Apache-2.0
// Reads all that layers are again: every node and every block of data against its checksum, and the
// digest of the tree against the recorded one, the tar against its diff_id.  Works beneath a
// running store, as of a checkpoint. What several layers share is read once; damage is told of the
// first of them.  Time: one pass over the nodes of each layer, then one over its data in the order
// of the device; the digests read the content once more each. Memory: 16 bytes for each node and
// extent of all layers, and what DataCheck says.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/store.h"

namespace lcfs {

struct Damage {
  LayerId layer = 0;              // in whose tree it was met
  LayerId owner = 0;              // who owns the block; 0: not known
  std::string path{};             // of the file; "" if it is none, or can't be found
  std::uint64_t inode = 0;        // 0: a node, or the tar that the layer came as
  std::uint64_t file_offset = 0;  // of a block of data
  std::uint64_t device_offset = kNoOffset;
  std::uint32_t expected = 0;  // its checksum
  std::string text{};
};

struct VerifiedLayer {
  LayerInfo info{};
  std::uint64_t nodes = 0,
                data_blocks = 0;  // read; what was read with a layer before it is not counted again
  std::uint64_t damaged = 0;
  enum Check : std::uint8_t { kNotChecked, kSame, kDifferent } digest = kNotChecked, diff_id = kNotChecked;
  std::optional<Digest> tree{};  // if it was computed
};

struct VerifyOptions {
  unsigned threads = 2;
  // The digest of a frozen layer is computed and compared if one is recorded; with `record`,
  // computed and recorded if not.
  bool record = false;
  std::atomic<bool> const* stop = nullptr;  // turns true: kInterrupted
  std::function<void(std::string_view layer, std::uint64_t done, std::uint64_t of)> progress{};
  // Whether the layer's own changes still make the tar with its diff_id (exporter/diff_id.h);
  // nothing: can't be told.
  std::function<Result<std::optional<bool>>(Store&, LayerInfo const&)> diff_id{};
};

// `ids` in any order; told in ascending order, without those that are removed before their turn
// comes.  Damage is no error.
Result<std::vector<VerifiedLayer>> verify_layers(Store& store, std::vector<LayerId> ids,
                                                 VerifyOptions const& options,
                                                 std::function<void(Damage const&)> const& tell);

}  // namespace lcfs
