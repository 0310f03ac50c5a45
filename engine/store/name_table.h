// SPDX-License-Identifier: Apache-2.0
// The name and digest tables of the store tree: which layer or image a name or digest means.
//
// Threads: the structure lock, shared to look up, exclusive to change.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/store/store_tree.h"
#include "engine/types.h"

namespace lcfs {

class NameTable {
 public:
  // tree and device must outlive this; the device only lends its name to errors.
  NameTable(StoreTree& tree, std::array<std::uint8_t, 16> const& hash_seed, Device const& device)
      : tree_(tree), hash_seed_(hash_seed), device_(device) {}

  struct Hit {
    Key key{};  // of the record that says so
    std::uint64_t id = 0;
    NameType type = NameType::kLayer;
  };

  // Exactly this name.
  Result<std::optional<Hit>> find(std::string_view name) const LCFS_REQUIRES_SHARED(structure);
  // This name, or one that registry clients shorten to it; of that type, if one is given.
  Result<std::optional<Hit>> find_any(std::string_view name,
                                      std::optional<NameType> type = {}) const
      LCFS_REQUIRES_SHARED(structure);
  // kExists, unless a new layer may have the name: no layer has it, and it cannot mean an image.
  Status check_free(std::string_view name) const LCFS_REQUIRES_SHARED(structure);
  // The names most like `name`, the best first; three at most.
  Result<std::vector<std::string>> similar(std::string_view name) const
      LCFS_REQUIRES_SHARED(structure);
  Status put(std::string_view name, std::uint64_t id, NameType type)
      LCFS_REQUIRES(structure);                                  // kExists
  Status erase(std::string_view name) LCFS_REQUIRES(structure);  // kCorrupt: it was not there

  Result<std::optional<Hit>> find_digest(Digest const& digest, NameType type) const
      LCFS_REQUIRES_SHARED(structure);
  Status put_digest(Digest const& digest, std::uint64_t id, NameType type) LCFS_REQUIRES(structure);
  Status erase_digest(Digest const& digest, NameType type)
      LCFS_REQUIRES(structure);  // kCorrupt: it was not there

 private:
  StoreTree& tree_;
  std::array<std::uint8_t, 16> const hash_seed_;
  Device const& device_;
};

}  // namespace lcfs
