// SPDX-License-Identifier: Apache-2.0
#include "engine/store/image_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "engine/tree/probe.h"
#include "engine/tree/tree.h"

namespace lcfs {

namespace {

std::uint64_t blob_offset(BlobKind kind, std::uint64_t chunk) {
  return static_cast<std::uint64_t>(kind) << 32 | chunk;
}

Status put_document(Tree& tree, ImageId id, BlobKind kind, std::string_view bytes) {
  for (std::uint64_t chunk = 0; !bytes.empty(); ++chunk) {
    auto const part = bytes.substr(0, kBlobChunk);
    LCFS_TRY(tree.put({id, kBlob, blob_offset(kind, chunk)}, as_bytes(part)));
    bytes.remove_prefix(part.size());
  }
  return {};
}

std::string_view as_text(Bytes b) { return {reinterpret_cast<char const*>(b.data()), b.size()}; }

std::uint32_t document_size(ImageInfo const& info, BlobKind kind) {
  switch (kind) {
    case BlobKind::kConfig: return info.config_size;
    case BlobKind::kManifest: return info.manifest_size;
    default: return info.index_size;
  }
}

}  // namespace

Result<std::vector<ImageId>> images_in(Tree const& tree) {
  // The digest table lists images among layers, so image ids are found without a walk over runs and
  // documents.
  std::vector<ImageId> ids;
  LCFS_TRY(scan(tree, {0, kDigest, 0}, {0, kDigest, ~0ull},
                [&](Key const& key, Bytes value) -> Result<bool> {
                  LCFS_TRY_ASSIGN(auto const info, parse_digest(key, value));
                  if (info.type == NameType::kImage) ids.push_back(info.id);
                  return true;
                }));
  std::sort(ids.begin(), ids.end());
  return ids;
}

Result<ImageDetails> image_in(Tree const& tree, ImageId id) {
  LCFS_TRY_ASSIGN(auto const found, tree.get({id, kImage, 0}));
  if (!found) return Error::not_found(fmt::format("no image {}", id));
  ImageDetails d;
  LCFS_TRY_ASSIGN(d.info, parse_image(found->key, found->value));
  LCFS_TRY(scan(tree, {id, kImageName, 0}, {id, kImageName, ~0ull},
                [&](Key const&, Bytes value) -> Result<bool> {
                  d.names.emplace_back(as_text(value));
                  return true;
                }));
  std::sort(d.names.begin(), d.names.end());
  return d;
}

// Reading -----------------------------------------------------------------------------------------

Result<ImageDetails> ImageTable::details(ImageId id) const {
  auto details = image_in(tree_.read(), id);
  if (!details && details.error().path.empty()) details.error().path = device_.name();
  return details;
}

Result<std::string> ImageTable::document(ImageId id, BlobKind kind) const {
  LCFS_TRY_ASSIGN(auto const image, details(id));
  std::uint32_t const size = document_size(image.info, kind);
  if (size == 0) return Error::not_found("the image has no such document");
  std::string out;
  LCFS_TRY(scan(tree_.read(), {id, kBlob, blob_offset(kind, 0)},
                {id, kBlob, blob_offset(kind, 0xffffffff)},
                [&](Key const&, Bytes value) -> Result<bool> {
                  if (value.size() > size - out.size())
                    return Error::corrupt("image document is longer than its record says");
                  out += as_text(value);
                  return out.size() < size;
                }));
  if (out.size() != size) return Error::corrupt("image document is cut short").in(device_.name());
  return out;
}

Result<std::vector<LayerInfo>> ImageTable::layers_of(ImageId id) const {
  LCFS_TRY_ASSIGN(auto const image, details(id));
  std::vector<LayerInfo> out;
  for (LayerId at = image.info.top_layer; at != 0;) {
    LCFS_TRY_ASSIGN(LayerInfo info, layers_.record(at));
    if (out.size() >= image.info.layer_count || info.parent >= at) {
      return Error::corrupt("the layers of an image do not end in a base").in(device_.name());
    }
    at = info.parent;
    out.push_back(std::move(info));
  }
  std::reverse(out.begin(), out.end());
  return out;
}

Status ImageTable::check_names(std::vector<std::string> const& names) const {
  for (auto const& name : names) {
    if (name.empty() || name.size() > kMaxImageName || name.find('\0') != std::string::npos) {
      return Error::invalid(
          fmt::format("image name has {} bytes; it must have 1 to {}", name.size(), kMaxImageName));
    }
    LCFS_TRY_ASSIGN(auto const taken, names_.find(name));
    if (taken && taken->type == NameType::kLayer) {
      return Error::exists(fmt::format("the name '{}' belongs to a layer", name))
          .in(device_.name());
    }
  }
  return {};
}

// What NameTable::find_any() would add to a layer's name, taken away again.
Status ImageTable::check_unlike_layers(std::vector<std::string> const& names) const {
  for (auto const& name : names) {
    std::string_view bare = name;
    if (bare.ends_with(":latest")) bare.remove_suffix(std::string_view(":latest").size());
    for (std::string_view const prefix : {"", "localhost/", "docker.io/library/", "docker.io/"}) {
      if (!bare.starts_with(prefix)) continue;
      LCFS_TRY_ASSIGN(auto const taken, names_.find(bare.substr(prefix.size())));
      if (!taken || taken->type != NameType::kLayer) continue;
      return Error::exists(
                 fmt::format("a layer is called '{}', and that name would also mean the image",
                             bare.substr(prefix.size())))
          .in(device_.name());
    }
  }
  return {};
}

std::uint64_t ImageTable::document_blocks(NewImage const& image) {
  std::uint64_t bytes = image.config.size() + image.manifest.size() + image.index.size();
  for (auto const& name : image.names) bytes += 2 * name.size();
  return 2 * bytes / kNodeSize * kNodeBlocks;  // nodes are at least half full
}

// Changing ----------------------------------------------------------------------------------------

Status ImageTable::put(NewImage const& image) {
  LCFS_TRY(check_names(image.names));
  LCFS_TRY_ASSIGN(auto const known, names_.find_digest(image.config_digest, NameType::kImage));
  if (known) {
    LCFS_TRY_ASSIGN(auto const old, details(known->id));
    return name(old.info, image.names);
  }
  ImageInfo info;
  info.id = ids_.take();
  info.config_digest = image.config_digest;
  info.manifest_digest = image.manifest_digest;
  info.top_layer = image.top_layer;
  info.layer_count = image.layer_count;
  info.config_size = static_cast<std::uint32_t>(image.config.size());
  info.manifest_size = static_cast<std::uint32_t>(image.manifest.size());
  info.index_size = static_cast<std::uint32_t>(image.index.size());
  info.imported_ns = now_ns();
  LCFS_TRY(put_document(tree_.edit(), info.id, BlobKind::kConfig, image.config));
  LCFS_TRY(put_document(tree_.edit(), info.id, BlobKind::kManifest, image.manifest));
  LCFS_TRY(put_document(tree_.edit(), info.id, BlobKind::kIndex, image.index));
  LCFS_TRY(names_.put_digest(image.config_digest, info.id, NameType::kImage));
  if (image.top_layer != 0) {
    LCFS_TRY_ASSIGN(LayerInfo top, layers_.record(image.top_layer));
    ++top.images;
    LCFS_TRY(layers_.put(top));
  }
  ++count_;
  return name(info, image.names);
}

Status ImageTable::put_record(ImageInfo const& info) {
  return tree_.edit().put({info.id, kImage, 0}, as_bytes(encode_image(info)));
}

Status ImageTable::name(ImageInfo info, std::vector<std::string> const& names) {
  // The record goes in before its names: taking a name from another image may walk over it.
  LCFS_TRY(put_record(info));
  for (auto const& name : names) {
    LCFS_TRY_ASSIGN(auto const taken, names_.find(name));
    if (taken && taken->id == info.id) continue;
    if (taken) {
      // The tag moves.  The image that had it stays, even without a name: its users know it by
      // digest.
      LCFS_TRY_ASSIGN(auto const other, details(taken->id));
      LCFS_TRY(unname(taken->id, name));
      ImageInfo loser = other.info;
      --loser.name_count;
      LCFS_TRY(put_record(loser));
    }
    LCFS_TRY(names_.put(name, info.id, NameType::kImage));
    auto never = [](Key const&, Bytes) -> Result<bool> { return false; };
    LCFS_TRY_ASSIGN(
        auto const slot,
        probe(tree_.read(), {info.id, kImageName, name_key(hash_seed_, name)}, 1, never));
    if (!slot.free) return Error::no_space("too many names with the same hash").in(device_.name());
    LCFS_TRY(tree_.edit().put(*slot.free, as_bytes(name)));
    ++info.name_count;
    LCFS_TRY(put_record(info));
  }
  return {};
}

Status ImageTable::unname(ImageId id, std::string_view name) {
  LCFS_TRY(names_.erase(name));
  std::optional<Key> gone;
  LCFS_TRY(scan(tree_.read(), {id, kImageName, 0}, {id, kImageName, ~0ull},
                [&](Key const& key, Bytes value) -> Result<bool> {
                  if (as_text(value) == name) gone = key;
                  return !gone;
                }));
  return gone ? tree_.edit().erase_range(*gone, *gone, nullptr) : Status{};
}

Status ImageTable::drop_name(ImageDetails& image, std::string_view name) {
  auto const it = std::find(image.names.begin(), image.names.end(), name);
  if (it == image.names.end())
    return Error::not_found(fmt::format("the image is not called '{}'", name));
  image.names.erase(it);
  LCFS_TRY(unname(image.info.id, name));
  --image.info.name_count;
  return put_record(image.info);
}

Status ImageTable::erase(ImageDetails const& image) {
  for (auto const& name : image.names) LCFS_TRY(names_.erase(name));
  LCFS_TRY(names_.erase_digest(image.info.config_digest, NameType::kImage));
  LCFS_TRY(
      tree_.edit().erase_range({image.info.id, kImage, 0}, {image.info.id, kBlob, ~0ull}, nullptr));
  --count_;
  return {};
}

}  // namespace lcfs
