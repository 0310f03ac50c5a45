// SPDX-License-Identifier: Apache-2.0
// The store tree as tables: layers, runs, images, names, digests, and the ancestry of layers.
// collect() reads it and reports records that do not parse; check() reports contradictions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "format/records.h"
#include "format/superblock.h"
#include "fsck/blob_check.h"
#include "fsck/finding.h"
#include "fsck/node_source.h"
#include "fsck/skeleton_check.h"
#include "fsck/vocabulary.h"

namespace lcfs::fsck {

struct LayerEntry {
  LayerInfo info{};
  std::uint64_t at = 0;       // device byte of its record
  std::size_t runs_from = 0;  // index into StoreScan::runs
  std::size_t runs_to = 0;
  std::uint64_t run_blocks = 0;  // sum of its runs
  std::uint64_t depth = 0;       // layers from its base to it, 1: a base
  std::uint64_t enter = 0,
                leave = 0;  // of a walk over the forest: x is above y if [y] lies inside [x]
};

struct RunEntry {
  std::uint64_t layer = 0, start = 0, count = 0;
  std::uint64_t at = 0;  // device byte of the record
};

struct CheckpointEntry {
  KeptCheckpoint info{};
  std::uint64_t at = 0;  // device byte of its record
};

class StoreScan {
 public:
  struct ImageEntry {
    ImageInfo info{};
    std::uint64_t at = 0;
    std::uint32_t names = 0;
  };
  struct NameEntry {  // of a kName or kImageName record
    std::uint64_t id = 0;
    NameType type = NameType::kLayer;
    std::string name{};
    std::uint64_t at = 0;
  };
  struct DigestEntry {
    DigestInfo info{};
    std::uint64_t at = 0;
  };

  StoreScan(NodeSource& source, SuperblockInfo const& superblock, Findings& findings)
      : source_(source), sb_(superblock), findings_(findings) {}

  // Walks the store tree.  Must be called before all other members.
  void collect();
  void check();

  [[nodiscard]] std::span<LayerEntry const> layers() const { return layers_; }  // by id
  [[nodiscard]] LayerEntry const* layer(std::uint64_t id) const;  // nullptr: no such layer
  // Live layers, parents before children, so that what a layer inherits is known when its turn
  // comes.
  [[nodiscard]] std::vector<LayerEntry const*> const& order() const { return order_; }
  [[nodiscard]] std::span<RunEntry const> runs_of(LayerEntry const& layer) const {
    return std::span{runs_}.subspan(layer.runs_from, layer.runs_to - layer.runs_from);
  }
  [[nodiscard]] std::span<RunEntry const> runs() const { return runs_; }  // by layer, then start
  [[nodiscard]] std::vector<std::uint64_t> const& nodes() const {
    return nodes_;
  }  // first blocks of the store tree's
  [[nodiscard]] std::vector<std::uint64_t> const& damaged_nodes() const {
    return damaged_nodes_;
  }  // likewise; inside the store
  [[nodiscard]] std::span<CheckpointEntry const> checkpoints() const {
    return checkpoints_;
  }  // restore points, by generation
  [[nodiscard]] std::uint64_t images() const { return images_.size(); }
  [[nodiscard]] std::vector<ImageEntry> const& image_table() const { return images_; }
  [[nodiscard]] std::vector<NameEntry> const& name_table() const { return names_; }
  [[nodiscard]] std::vector<NameEntry> const& image_names() const { return image_names_; }
  [[nodiscard]] bool complete() const {
    return complete_;
  }  // false: damage hides a part of the store tree

  // True if the records of the layer's skeleton are complete.
  [[nodiscard]] bool skeleton_sound(std::uint64_t id) const {
    auto const it = skeletons_.entries().find(id);
    return it != skeletons_.entries().end() && it->second.sound;
  }

  // True if `by` may refer to what `owner` owns: `owner` is `by` or one of its ancestors.
  [[nodiscard]] bool may_own(std::uint64_t owner, std::uint64_t by) const;
  // True if the runs of layer `owner` contain all of [block, block + count).
  [[nodiscard]] bool in_runs(std::uint64_t owner, std::uint64_t block, std::uint64_t count) const;
  [[nodiscard]] std::string name_of(std::uint64_t layer) const;  // "" if it has none
  [[nodiscard]] std::uint64_t last_id() const;  // the greatest id or serve_id of a layer or image

 private:
  void say(Code code, std::uint64_t at, std::string text, std::uint64_t layer = 0);
  void take(Key const& key, Bytes value, std::uint64_t at, BlobCheck& blobs);
  void link_runs();
  void check_counters();
  void check_graph();
  void check_images();
  void check_layer_names();
  void check_image_names();
  void check_digests();
  void check_skeletons();
  void check_tree_digests();

  NodeSource& source_;
  SuperblockInfo const sb_;
  Findings& findings_;
  bool complete_ = true;
  std::vector<LayerEntry> layers_;
  std::vector<LayerEntry const*> order_;
  std::vector<RunEntry> runs_;
  std::vector<std::uint64_t> nodes_, damaged_nodes_;
  std::vector<ImageEntry> images_;
  std::vector<NameEntry> names_;        // the name table
  std::vector<NameEntry> image_names_;  // on the images' side
  std::vector<DigestEntry> digests_;
  SkeletonScan skeletons_{[this](std::uint64_t at, std::string text, std::uint64_t layer) {
    say(Code::kRecord, at, std::move(text), layer);
  }};
  std::vector<CheckpointEntry> checkpoints_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> tree_digests_;  // layer, device byte
};

}  // namespace lcfs::fsck
