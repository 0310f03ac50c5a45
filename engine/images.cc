// SPDX-License-Identifier: Apache-2.0
// Images: a name, the documents as they came, and the layer they stand on.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "engine/import.h"
#include "engine/kept_tree.h"
#include "engine/probe.h"
#include "engine/store_impl.h"

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

}  // namespace

bool named_by_chain(LayerInfo const& layer) {
  return layer.has_digests && layer.name.size() >= 12 &&
         digest_hex(layer.chain_id).starts_with(layer.name);
}

Result<std::vector<ImageId>> images_in(Tree const& tree) {
  // The digest table lists images among layers: image ids are found there without walking runs and
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
  if (!found) return Error{Errc::kNotFound, fmt::format("no image {}", id), ENOENT, {}, kNoOffset};
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

Result<ImageDetails> StoreImpl::image_details(ImageId id) const {
  auto details = image_in(tree, id);
  if (!details && details.error().path.empty()) details.error().path = device.name();
  return details;
}

Result<ImageDetails> Store::image(ImageId id) const {
  ReadLock lock(impl_->mu);
  return impl_->image_details(id);
}

Status Store::for_each_image(std::function<bool(ImageDetails const&)> const& take) const {
  std::vector<ImageId> ids;
  {
    ReadLock lock(impl_->mu);
    LCFS_TRY_ASSIGN(ids, images_in(impl_->tree));
  }
  for (ImageId const id : ids) {
    auto details = image(id);
    if (!details) {
      if (details.error().code == Errc::kNotFound) continue;  // removed meanwhile
      return std::move(details).error();
    }
    if (!take(*details)) return {};
  }
  return {};
}

Result<std::string> Store::image_document(ImageId id, BlobKind kind) const {
  ReadLock lock(impl_->mu);
  LCFS_TRY_ASSIGN(auto const details, impl_->image_details(id));
  std::uint32_t const size = kind == BlobKind::kConfig     ? details.info.config_size
                             : kind == BlobKind::kManifest ? details.info.manifest_size
                                                           : details.info.index_size;
  if (size == 0) return Error{Errc::kNotFound, "the image has no such document"};
  std::string out;
  LCFS_TRY(scan(impl_->tree, {id, kBlob, blob_offset(kind, 0)},
                {id, kBlob, blob_offset(kind, 0xffffffff)},
                [&](Key const&, Bytes value) -> Result<bool> {
                  if (value.size() > size - out.size())
                    return Error{Errc::kCorrupt, "image document is longer than its record says"};
                  out += as_text(value);
                  return out.size() < size;
                }));
  if (out.size() != size)
    return Error{Errc::kCorrupt, "image document is cut short", 0, impl_->device.name(), kNoOffset};
  return out;
}

Result<std::vector<LayerInfo>> Store::image_layers(ImageId id) const {
  ReadLock lock(impl_->mu);
  LCFS_TRY_ASSIGN(auto const details, impl_->image_details(id));
  std::vector<LayerInfo> out;
  for (LayerId at = details.info.top_layer; at != 0;) {
    LCFS_TRY_ASSIGN(LayerInfo info, impl_->layer_record(at));
    if (out.size() >= details.info.layer_count || info.parent >= at) {
      return Error{Errc::kCorrupt, "an image's layers do not lead to a base", 0,
                   impl_->device.name(), kNoOffset};
    }
    at = info.parent;
    out.push_back(std::move(info));
  }
  std::reverse(out.begin(), out.end());
  return out;
}

// Nothing has been changed yet when a name is refused.
Status StoreImpl::check_image_names(std::vector<std::string> const& names) const {
  for (auto const& name : names) {
    if (name.empty() || name.size() > kMaxImageName || name.find('\0') != std::string::npos) {
      return Error{Errc::kInvalid, fmt::format("image name of {} bytes; it must have 1 to {}",
                                               name.size(), kMaxImageName)};
    }
    LCFS_TRY_ASSIGN(auto const taken, find_name(name));
    if (taken && taken->type == NameType::kLayer) {
      return Error{Errc::kExists, fmt::format("the name '{}' belongs to a layer", name), EEXIST,
                   device.name(), kNoOffset};
    }
  }
  return {};
}

// What find_any_name() would add to a layer's name, taken away again.
Status StoreImpl::check_no_layer_means(std::vector<std::string> const& names) const {
  for (auto const& name : names) {
    std::string_view bare = name;
    if (bare.ends_with(":latest")) bare.remove_suffix(std::string_view(":latest").size());
    for (std::string_view const prefix : {"", "localhost/", "docker.io/library/", "docker.io/"}) {
      if (!bare.starts_with(prefix)) continue;
      LCFS_TRY_ASSIGN(auto const taken, find_name(bare.substr(prefix.size())));
      if (!taken || taken->type != NameType::kLayer) continue;
      return Error{Errc::kExists,
                   fmt::format("a layer is called '{}', which would mean the image too",
                               bare.substr(prefix.size())),
                   EEXIST, device.name(), kNoOffset};
    }
  }
  return {};
}

Status StoreImpl::drop_image_name(ImageId id, std::string_view name) {
  LCFS_TRY(erase_name(name));
  std::optional<Key> gone;
  LCFS_TRY(scan(tree, {id, kImageName, 0}, {id, kImageName, ~0ull},
                [&](Key const& key, Bytes value) -> Result<bool> {
                  if (as_text(value) == name) gone = key;
                  return !gone;
                }));
  return gone ? tree.erase_range(*gone, *gone, nullptr) : Status{};
}

Status StoreImpl::name_image_locked(ImageInfo info, std::vector<std::string> const& names) {
  // The record goes in before its names: taking a name from another image may walk over it.
  LCFS_TRY(tree.put({info.id, kImage, 0}, as_bytes(encode_image(info))));
  for (auto const& name : names) {
    LCFS_TRY_ASSIGN(auto const taken, find_name(name));
    if (taken && taken->id == info.id) continue;
    if (taken) {
      // The tag moves.  The image it came from stays, even without a name: its users know it by
      // digest.
      LCFS_TRY_ASSIGN(auto const other, image_details(taken->id));
      LCFS_TRY(drop_image_name(taken->id, name));
      ImageInfo loser = other.info;
      --loser.name_count;
      LCFS_TRY(tree.put({loser.id, kImage, 0}, as_bytes(encode_image(loser))));
    }
    LCFS_TRY(put_name(name, info.id, NameType::kImage));
    auto never = [](Key const&, Bytes) -> Result<bool> { return false; };
    LCFS_TRY_ASSIGN(auto const slot,
                    probe(tree, {info.id, kImageName, name_key(hash_seed, name)}, 1, never));
    if (!slot.free)
      return Error{Errc::kNoSpace, "too many names with the same hash", ENOSPC, device.name(),
                   kNoOffset};
    LCFS_TRY(tree.put(*slot.free, as_bytes(name)));
    ++info.name_count;
    LCFS_TRY(tree.put({info.id, kImage, 0}, as_bytes(encode_image(info))));
  }
  return {};
}

std::uint64_t StoreImpl::document_blocks(NewImage const& image) {
  std::uint64_t bytes = image.config.size() + image.manifest.size() + image.index.size();
  for (auto const& name : image.names) bytes += 2 * name.size();
  return 2 * bytes / kNodeSize * kNodeBlocks;  // nodes are half full at least
}

Status StoreImpl::put_image_locked(NewImage const& image) {
  LCFS_TRY(check_image_names(image.names));
  LCFS_TRY_ASSIGN(auto const known, find_digest(image.config_digest, NameType::kImage));
  if (known) {
    LCFS_TRY_ASSIGN(auto const details, image_details(known->id));
    return name_image_locked(details.info, image.names);
  }
  ImageInfo info;
  info.id = next_id.fetch_add(1);
  info.config_digest = image.config_digest;
  info.manifest_digest = image.manifest_digest;
  info.top_layer = image.top_layer;
  info.layer_count = image.layer_count;
  info.config_size = static_cast<std::uint32_t>(image.config.size());
  info.manifest_size = static_cast<std::uint32_t>(image.manifest.size());
  info.index_size = static_cast<std::uint32_t>(image.index.size());
  info.imported_ns = now_ns();
  LCFS_TRY(put_document(tree, info.id, BlobKind::kConfig, image.config));
  LCFS_TRY(put_document(tree, info.id, BlobKind::kManifest, image.manifest));
  LCFS_TRY(put_document(tree, info.id, BlobKind::kIndex, image.index));
  LCFS_TRY(put_digest(image.config_digest, info.id, NameType::kImage));
  if (image.top_layer != 0) {
    LCFS_TRY_ASSIGN(LayerInfo top, layer_record(image.top_layer));
    ++top.images;
    LCFS_TRY(put_layer_record(top));
  }
  ++image_count;
  return name_image_locked(info, image.names);
}

Status Store::tag_image(ImageId id, std::vector<std::string> const& names) {
  LCFS_TRY(impl_->make_ready(Urgency::kOrdinary));
  {
    WriteLock lock(impl_->mu);
    LCFS_TRY_ASSIGN(auto const details, impl_->image_details(id));
    LCFS_TRY(impl_->check_image_names(names));
    LCFS_TRY(impl_->check_no_layer_means(names));
    LCFS_TRY(impl_->begin_structure_change());
    std::uint64_t const before = impl_->tree.changes();
    auto tag = [&]() LCFS_REQUIRES(impl_->mu) -> Status {
      LCFS_TRY(impl_->name_image_locked(details.info, names));
      return impl_->keep(fmt::format("image tag {}", fmt::join(names, " ")));
    };
    LCFS_TRY(impl_->end_structure_change(tag(), before));
  }
  return impl_->checkpoint(false);
}

Status Store::make_image(NewImage const& image, std::vector<LayerDigests> const& digests) {
  return make_image(image, digests, 0);
}

Status Store::make_image(NewImage const& image, std::vector<LayerDigests> const& digests,
                         std::uint64_t joins) {
  LCFS_TRY(impl_->make_ready(Urgency::kOrdinary));
  std::uint64_t noted = 0;
  {
    WriteLock lock(impl_->mu);
    LCFS_TRY(impl_->check_image_names(image.names));
    LCFS_TRY_ASSIGN(LayerInfo const top, impl_->live_record(image.top_layer));
    if (top.state != LayerState::kFrozen) {
      return Error{Errc::kInvalid, fmt::format("layer '{}' is not frozen", top.name), EINVAL,
                   impl_->device.name(), kNoOffset};
    }
    for (auto const& d : digests)
      LCFS_TRY(impl_->live_record(d.layer));  // refused before anything has changed
    LCFS_TRY(impl_->begin_structure_change(Urgency::kOrdinary, StoreImpl::document_blocks(image)));
    std::uint64_t const before = impl_->tree.changes();
    auto make = [&]() LCFS_REQUIRES(impl_->mu) -> Status {
      for (auto const& d : digests) LCFS_TRY(impl_->put_layer_digests(d));
      LCFS_TRY(impl_->put_image_locked(image));
      return impl_->keep_with(joins, fmt::format("--image {}", fmt::join(image.names, " ")),
                              fmt::format("image of layer {}", top.name));
    };
    LCFS_TRY(impl_->end_structure_change(make(), before));
    noted = impl_->last_noted();
  }
  LCFS_TRY(impl_->checkpoint(false));
  impl_->tell(noted);
  return {};
}

Status StoreImpl::put_layer_digests(LayerDigests const& d) {
  LCFS_TRY_ASSIGN(LayerInfo info, live_record(d.layer));
  if (info.has_digests) return {};
  // Another layer is the same chain: it keeps the digest, and the image's config has it too.
  LCFS_TRY_ASSIGN(auto const known, find_digest(d.chain_id, NameType::kLayer));
  if (known) return {};
  info.has_digests = true;
  info.diff_id = d.diff_id;
  info.chain_id = d.chain_id;
  info.diff_bytes = d.diff_bytes;
  LCFS_TRY(put_digest(d.chain_id, info.id, NameType::kLayer));
  if (d.name_by_chain && !info.anonymous) {
    std::string const name = digest_hex(d.chain_id).substr(0, 12);
    LCFS_TRY_ASSIGN(auto const taken, find_name(name));
    if (!taken) {
      LayerInfo const old = info;
      LCFS_TRY(put_name(name, info.id, NameType::kLayer));
      LCFS_TRY(erase_name(old.name));
      info.name = name;
      note(LayerEvent::kRenamed, old, info);
    }
  }
  return put_layer_record(info);
}

Status StoreImpl::remove_image_locked(ImageId id, std::string_view name) {
  LCFS_TRY_ASSIGN(ImageDetails details, image_details(id));
  if (!name.empty()) {
    auto const it = std::find(details.names.begin(), details.names.end(), name);
    if (it == details.names.end())
      return Error{Errc::kNotFound, fmt::format("the image is not called '{}'", name)};
    LCFS_TRY(drop_image_name(id, name));
    if (--details.info.name_count != 0)
      return tree.put({id, kImage, 0}, as_bytes(encode_image(details.info)));
  } else {
    for (auto const& n : details.names) LCFS_TRY(erase_name(n));
  }
  LCFS_TRY(erase_digest(details.info.config_digest, NameType::kImage));
  LCFS_TRY(tree.erase_range({id, kImage, 0}, {id, kBlob, ~0ull}, nullptr));
  --image_count;
  // Layers from the top down, as long as nothing else stands on them; remove_layer_locked() takes
  // anonymous ones along.
  LayerId at = details.info.top_layer;
  bool top = true;
  while (at != 0) {
    LCFS_TRY_ASSIGN(LayerInfo info, layer_record(at));
    if (std::exchange(top, false)) --info.images;
    // Layers that somebody gave a name to are somebody's work: they stay until removed by it.
    bool const goes =
        info.children == 0 && info.images == 0 && (info.anonymous || named_by_chain(info));
    if (!goes) return put_layer_record(info);
    LCFS_TRY_ASSIGN(at, remove_layer_locked(std::move(info)));
  }
  return {};
}

Status Store::remove_image(ImageId id, std::string_view name) {
  LCFS_TRY(impl_->make_ready(Urgency::kEmergency));
  LCFS_TRY(impl_->checkpoint(false));  // what goes is kept as it is now
  std::uint64_t noted = 0;
  {
    WriteLock lock(impl_->mu);
    LCFS_TRY(impl_->begin_structure_change(Urgency::kEmergency));
    std::uint64_t const before = impl_->tree.changes();
    auto remove = [&]() LCFS_REQUIRES(impl_->mu) -> Status {
      LCFS_TRY_ASSIGN(auto const details, impl_->image_details(id));
      std::string const called =
          !name.empty() ? std::string(name) : digest_hex(details.info.config_digest).substr(0, 12);
      LCFS_TRY(impl_->remove_image_locked(id, name));
      return impl_->keep(fmt::format("image rm {}", called));
    };
    LCFS_TRY(impl_->end_structure_change(remove(), before));
    noted = impl_->last_noted();
  }
  LCFS_TRY(impl_->checkpoint(false));
  impl_->tell(noted);
  return {};
}

}  // namespace lcfs
