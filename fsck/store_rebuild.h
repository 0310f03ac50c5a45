// SPDX-License-Identifier: Apache-2.0
// Builds a new store tree: the remaining layers and images, and everything that follows from them:
// runs, counters, names, digests.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fsck/layer_repair.h"

namespace lcfs::fsck {

class StoreRebuild {
 public:
  StoreRebuild(Survey const& survey, LayerRepair& layers, RepairOptions const& options)
      : survey_(survey), layers_(layers), options_(options) {}

  // Decides, with questions, which images stay.
  void decide();
  [[nodiscard]] bool changed() const { return changed_; }
  [[nodiscard]] bool declined() const { return declined_; }

  // Call it after LayerRepair::build().  Returns the superblock for the new tree; the caller sets
  // slot and generation.
  Result<SuperblockInfo> build(NodeWriter& out, NodeSource& fresh);

 private:
  using Records = std::vector<std::pair<Key, std::string>>;
  [[nodiscard]] std::set<std::uint64_t> damaged_documents() const;
  void add_layers(Records& records, SuperblockInfo& sb);
  void add_images(Records& records, SuperblockInfo& sb);
  void add_name(Records& records, NameInfo const& name);
  void add_digest(Records& records, DigestInfo const& digest);

  Survey const& survey_;
  LayerRepair& layers_;
  RepairOptions const& options_;
  std::map<std::uint64_t, ImageInfo> images_;                   // that stay
  std::map<std::uint64_t, std::set<std::string>> image_names_;  // of them
  std::map<std::uint64_t, std::uint64_t> probes_;               // name key -> names at it
  std::map<std::uint64_t, std::uint64_t> digest_probes_;
  bool changed_ = false, declined_ = false;
};

}  // namespace lcfs::fsck
