// SPDX-License-Identifier: Apache-2.0
// fsck: reads a store with an independent implementation (device/ and format/ only), and reports
// everything that breaks the format.  Never writes (repair.h does).  Specification:
// doc/format.md.
//
// Checked: both superblocks; every node of the store tree and the layers' trees (checksum,
// address, generation, owner, level, key order and bounds); every record; per layer the directory
// structure, link counts, back references, name keys, attributes, inline data and extents,
// counters; ownership: every block has one owner, and a layer's runs are exactly what its tree
// uses; the layer graph, names, images and their documents, digests; restore points, as the
// stores that they were; the sum of space; with `data` every data block.
//
// Memory: Options::node_cache, 32 bytes per space run and about 300 per layer and image, and that
// of one layer (layer_check.h). Time: reads every node once where the cache holds the working set;
// of a layer it walks what differs from its parent, or all of it if it is a base or something is
// wrong (layer_check.h). A damaged node is reported once, with the keys it hides; layers that share
// it are named.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "device/device.h"
#include "format/superblock.h"
#include "fsck/finding.h"
#include "fsck/vocabulary.h"

namespace lcfs::fsck {

struct Options {
  bool data = true;  // verify data checksums too
  // Walk every layer's whole tree, even where the differences from its parent would do.
  bool walk_all = false;
  bool collect = false;  // keep the facts for a repair (survey.h)
  // If no store tree can be read, search the whole store for one (tree_search.h).
  bool search = false;
  bool skip_checksum = false;  // fuzzing only: nodes and superblocks are read past their checksums
  unsigned threads = 2;        // for comparing layers and for reading data
  std::uint64_t node_cache = 64ull << 20;  // bytes
  [[nodiscard]] bool stopped() const {
    return stop != nullptr && stop->load(std::memory_order_relaxed);
  }
  std::uint64_t max_findings = 10'000;  // more are only counted
  // When it becomes true: kInterrupted, and nothing is changed.
  std::atomic<bool> const* stop = nullptr;
  std::function<void(std::string_view layer, std::uint64_t done, std::uint64_t of)>
      progress{};  // layers; may be empty
};

enum class SlotState : std::uint8_t {
  kValid,
  kEmpty,       // all zero
  kUnfinished,  // of an interrupted checkpoint: not damage
  kDamaged,
};

struct Slot {
  SlotState state = SlotState::kDamaged;
  std::uint64_t generation = 0;  // of a valid or unfinished one
  std::string problem{};         // of a damaged one
};

// Blocks, unless noted otherwise.
struct Counters {
  std::uint64_t layers = 0, images = 0;  // live layers
  std::uint64_t inodes = 0;              // summed over layers: shared ones count in each
  std::uint64_t total = 0, reserved = 0, store_tree = 0, layer_nodes = 0, layer_data = 0, dying = 0,
                history = 0, free = 0;
  std::uint64_t nodes_read = 0;    // reads of nodes
  std::uint64_t data_checked = 0;  // blocks whose checksum was compared
};

struct Report {
  std::array<Slot, 2> slots{};
  std::optional<std::uint32_t> in_force{};     // the slot in use; none: nothing else was checked
  std::optional<SuperblockInfo> superblock{};  // of that slot
  std::vector<Finding> findings{};             // in the order found
  std::uint64_t errors = 0, notes = 0, left_out = 0;
  Counters counters{};

  [[nodiscard]] bool clean() const { return errors == 0; }
};

// Errors: the device cannot be read; it holds no store (kInvalid), or one with a version or
// features that this lcfs does not support (kUnsupported).  Damage is reported, not an error.
Result<Report> check(Device& device, Options const& options);

}  // namespace lcfs::fsck
