// SPDX-License-Identifier: Apache-2.0
// What a Store does with images: list, read, make, tag, remove.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "engine/store/removal.h"
#include "engine/store/store_impl.h"

namespace lcfs {

bool named_by_chain(LayerInfo const& layer) {
  return layer.has_digests && layer.name.size() >= 12 &&
         digest_hex(layer.chain_id).starts_with(layer.name);
}

Result<ImageDetails> Store::image(ImageId id) const {
  ReadLock lock(impl_->catalog.mutex());
  return impl_->catalog.images.details(id);
}

Status Store::for_each_image(std::function<bool(ImageDetails const&)> const& take) const {
  std::vector<ImageId> ids;
  {
    ReadLock lock(impl_->catalog.mutex());
    LCFS_TRY_ASSIGN(ids, images_in(impl_->catalog.tree.read()));
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
  ReadLock lock(impl_->catalog.mutex());
  return impl_->catalog.images.document(id, kind);
}

Result<std::vector<LayerInfo>> Store::image_layers(ImageId id) const {
  ReadLock lock(impl_->catalog.mutex());
  return impl_->catalog.images.layers_of(id);
}

namespace {

// Records the digests of a layer that has none.
Status put_digests(StoreImpl& s, LayerDigests const& d) LCFS_REQUIRES(structure) {
  auto& names = s.catalog.names;
  LCFS_TRY_ASSIGN(LayerInfo info, s.catalog.layers.live(d.layer));
  if (info.has_digests) return {};
  // Another layer is the same chain: it keeps the digest, and the image's config has it too.
  LCFS_TRY_ASSIGN(auto const known, names.find_digest(d.chain_id, NameType::kLayer));
  if (known) return {};
  info.has_digests = true;
  info.diff_id = d.diff_id;
  info.chain_id = d.chain_id;
  info.diff_bytes = d.diff_bytes;
  LCFS_TRY(names.put_digest(d.chain_id, info.id, NameType::kLayer));
  if (d.name_by_chain && !info.anonymous) {
    std::string const name = digest_hex(d.chain_id).substr(0, 12);
    LCFS_TRY_ASSIGN(auto const taken, names.find(name));
    if (!taken) {
      LayerInfo const old = info;
      LCFS_TRY(names.put(name, info.id, NameType::kLayer));
      LCFS_TRY(names.erase(old.name));
      info.name = name;
      s.events.note(LayerEvent::kRenamed, old, info);
    }
  }
  return s.catalog.layers.put(info);
}

}  // namespace

Status Store::tag_image(ImageId id, std::vector<std::string> const& names) {
  auto& s = *impl_;
  LCFS_TRY(s.room.make_ready(Urgency::kOrdinary));
  {
    WriteLock lock(s.catalog.mutex());
    LCFS_TRY_ASSIGN(auto const image, s.catalog.images.details(id));
    LCFS_TRY(s.catalog.images.check_names(names));
    LCFS_TRY(s.catalog.images.check_unlike_layers(names));
    LCFS_TRY(s.catalog.tree.change(Urgency::kOrdinary, 0, [&]() LCFS_REQUIRES(structure) -> Status {
      LCFS_TRY(s.catalog.images.name(image.info, names));
      return s.history.keep(fmt::format("image tag {}", fmt::join(names, " ")));
    }));
  }
  return s.checkpointer.run(false);
}

Status Store::make_image(NewImage const& image, std::vector<LayerDigests> const& digests) {
  return make_image(image, digests, 0);
}

Status Store::make_image(NewImage const& image, std::vector<LayerDigests> const& digests,
                         std::uint64_t joins) {
  auto& s = *impl_;
  LCFS_TRY(s.room.make_ready(Urgency::kOrdinary));
  std::uint64_t noted = 0;
  {
    WriteLock lock(s.catalog.mutex());
    LCFS_TRY(s.catalog.images.check_names(image.names));
    LCFS_TRY_ASSIGN(LayerInfo const top, s.catalog.layers.live(image.top_layer));
    if (top.state != LayerState::kFrozen) {
      return Error::invalid(
                 fmt::format("layer '{}' is writable; an image needs a read-only one", top.name))
          .in(s.device.name());
    }
    for (auto const& d : digests)
      LCFS_TRY(s.catalog.layers.live(d.layer));  // refused before anything has changed
    LCFS_TRY(s.catalog.tree.change(
        Urgency::kOrdinary, ImageTable::document_blocks(image),
        [&]() LCFS_REQUIRES(structure) -> Status {
          for (auto const& d : digests) LCFS_TRY(put_digests(s, d));
          LCFS_TRY(s.catalog.images.put(image));
          return s.history.keep_with(joins, fmt::format("--image {}", fmt::join(image.names, " ")),
                                     fmt::format("image of layer {}", top.name));
        }));
    noted = s.events.last_noted();
  }
  return s.finish(noted);
}

Status Store::remove_image(ImageId id, std::string_view name) {
  auto& s = *impl_;
  LCFS_TRY(s.room.make_ready(Urgency::kEmergency));
  LCFS_TRY(s.checkpointer.run(false));  // what goes is kept as it is now
  std::uint64_t noted = 0;
  {
    WriteLock lock(s.catalog.mutex());
    LCFS_TRY(
        s.catalog.tree.change(Urgency::kEmergency, 0, [&]() LCFS_REQUIRES(structure) -> Status {
          LCFS_TRY_ASSIGN(auto const image, s.catalog.images.details(id));
          std::string const called = !name.empty()
                                         ? std::string(name)
                                         : digest_hex(image.info.config_digest).substr(0, 12);
          LCFS_TRY(lcfs::remove_image(s, id, name));
          return s.history.keep(fmt::format("image rm {}", called));
        }));
    noted = s.events.last_noted();
  }
  return s.finish(noted);
}

}  // namespace lcfs
