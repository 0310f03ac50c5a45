// SPDX-License-Identifier: Apache-2.0
// Images in the store tree: their records, names and documents.
//
// Threads: the structure lock, shared to read, exclusive to change.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/import.h"
#include "engine/store/ids.h"
#include "engine/store/layer_table.h"
#include "engine/store/name_table.h"

namespace lcfs {

// Of any store tree.
Result<std::vector<ImageId>> images_in(Tree const& tree);  // sorted
Result<ImageDetails> image_in(Tree const& tree, ImageId id);

class ImageTable {
 public:
  // All but the superblock must outlive this.
  ImageTable(StoreTree& tree, NameTable& names, LayerTable& layers, Ids& ids,
             std::array<std::uint8_t, 16> const& hash_seed, Device const& device,
             SuperblockInfo const& super)
      : tree_(tree),
        names_(names),
        layers_(layers),
        ids_(ids),
        hash_seed_(hash_seed),
        device_(device),
        count_(super.image_count) {}

  Result<ImageDetails> details(ImageId id) const LCFS_REQUIRES_SHARED(structure);  // kNotFound
  // Raw bytes; kNotFound if it has none.
  Result<std::string> document(ImageId id, BlobKind kind) const LCFS_REQUIRES_SHARED(structure);
  // The layers of an image, base first.
  Result<std::vector<LayerInfo>> layers_of(ImageId id) const LCFS_REQUIRES_SHARED(structure);

  // An image may have the names: they are well formed (kInvalid), and no layer has one (kExists).
  Status check_names(std::vector<std::string> const& names) const LCFS_REQUIRES_SHARED(structure);
  // No layer's name can mean an image of one of these names (kExists).
  Status check_unlike_layers(std::vector<std::string> const& names) const
      LCFS_REQUIRES_SHARED(structure);

  // A new image; or, if the store has one with the same config, that one gets the names too.
  Status put(NewImage const& image) LCFS_REQUIRES(structure);
  // Writes the record, and gives the image those of the names that it does not have; a name that
  // another image has moves.
  Status name(ImageInfo info, std::vector<std::string> const& names) LCFS_REQUIRES(structure);
  // Takes one name away, from `image` too; without one it stays.  kNotFound: it has no such name.
  Status drop_name(ImageDetails& image, std::string_view name) LCFS_REQUIRES(structure);
  // Takes away the image with all names that `image` lists; its layers are the caller's.
  Status erase(ImageDetails const& image) LCFS_REQUIRES(structure);

  // What the documents and names of an image add to the store tree.  Blocks.
  [[nodiscard]] static std::uint64_t document_blocks(NewImage const& image);

  // As a superblock has it.
  [[nodiscard]] std::uint64_t count() const LCFS_REQUIRES_SHARED(structure) { return count_; }
  void reset_total(std::uint64_t count) LCFS_REQUIRES(structure) { count_ = count; }

 private:
  // The name and its record go; the image's own record is the caller's to change.
  Status unname(ImageId id, std::string_view name) LCFS_REQUIRES(structure);
  Status put_record(ImageInfo const& info) LCFS_REQUIRES(structure);

  StoreTree& tree_;
  NameTable& names_;
  LayerTable& layers_;
  Ids& ids_;
  std::array<std::uint8_t, 16> const hash_seed_;
  Device const& device_;
  std::uint64_t count_ LCFS_GUARDED_BY(structure);
};

}  // namespace lcfs
