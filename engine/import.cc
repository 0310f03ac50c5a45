// SPDX-License-Identifier: Apache-2.0
#include "engine/import.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "engine/ingest.h"
#include "engine/skeleton_place.h"
#include "engine/stack.h"
#include "engine/store_impl.h"

namespace lcfs {

struct ImportTransaction::Impl {
  Impl(Store& s, std::string operation)
      : outer(s), store(s.impl()), queue(store.device), what(std::move(operation)) {}

  struct Stacked {
    LayerInfo info{};
    std::shared_ptr<LayerImpl> layer{};
    std::vector<Extent> blocks{};  // all that it owns; normalized
    std::uint64_t new_children = 0;
    PlacedSkeleton skeleton{};
  };

  Store& outer;
  StoreImpl& store;
  WriteQueue queue;
  std::string const what;
  std::map<LayerId, Stacked> stacked;  // ascending ids: parents before children
  std::map<Digest, LayerId> by_chain;
  std::map<std::string, LayerId> by_name;
  std::vector<NewImage> images;
  bool committed = false;
  std::uint64_t noted = 0;

  Result<std::string> free_name(Digest const& chain_id) const;
  std::uint64_t record_blocks() const;
  Status insert();
  [[nodiscard]] std::string said() const;
};

ImportTransaction::ImportTransaction(Store& store, std::string what)
    : impl_(std::make_unique<Impl>(store, std::move(what))) {}

ImportTransaction::~ImportTransaction() {
  if (impl_->committed) return;
  for (auto& [id, s] : impl_->stacked) {
    s.layer->discard();
    impl_->store.space.give_back(s.blocks, false);  // no checkpoint ever named them
  }
}

Result<std::unique_ptr<Ingest>> ImportTransaction::begin_layer() {
  LCFS_TRY(impl_->store.check_writable());
  // Space that a removal freed a moment ago still waits for two checkpoints; on a store that is
  // filling up it is needed now.
  auto const space = impl_->store.space.counts();
  if (space.pending != 0 && space.free < impl_->store.space.total() / 2)
    LCFS_TRY(impl_->store.settle());
  return std::unique_ptr<Ingest>(std::make_unique<IngestImpl>(impl_->store, impl_->queue));
}

Result<std::string> ImportTransaction::Impl::free_name(Digest const& chain_id) const {
  std::string const hex = digest_hex(chain_id);
  ReadLock lock(store.mu);
  for (std::size_t n = 12; n <= hex.size(); n += 4) {
    std::string name = hex.substr(0, n);
    LCFS_TRY_ASSIGN(auto const taken, store.find_name(name));
    if (!taken && !by_name.contains(name)) return name;
  }
  return Error{Errc::kExists, fmt::format("every name made of {} is taken", hex)};
}

Result<LayerId> ImportTransaction::stack(Ingest& base, LayerId parent, LayerMeta const& meta) {
  auto& ingest = dynamic_cast<IngestImpl&>(base);
  auto& store = impl_->store;
  LCFS_TRY(ingest.finish());
  bool const has_digests = meta.name.empty();
  if (has_digests) {
    if (auto it = impl_->by_chain.find(meta.chain_id); it != impl_->by_chain.end())
      return it->second;
  }

  Impl::Stacked s;
  s.info.id = s.info.serve_id = store.next_id.fetch_add(1);
  s.info.parent = parent;
  s.info.state = LayerState::kFrozen;
  s.info.has_digests = has_digests;
  s.info.diff_id = meta.diff_id;
  s.info.chain_id = meta.chain_id;
  s.info.diff_bytes = meta.diff_bytes;
  s.info.created_ns = s.info.frozen_ns = now_ns();
  if (has_digests) {
    LCFS_TRY_ASSIGN(s.info.name, impl_->free_name(meta.chain_id));
  } else {
    LCFS_TRY(Store::check_layer_name(meta.name));
    ReadLock lock(store.mu);
    LCFS_TRY(store.check_free_name(meta.name));
    s.info.name = meta.name;
  }

  auto& delta = ingest.delta().impl();
  // Stacking can't wait in its middle: what it may need is there before, though history may have to
  // go for it.
  LCFS_TRY(store.make_slack(delta.files.size() + 4096));
  Inode const first = store.next_inode.fetch_add(delta.files.size() + delta.implied + 1);
  if (parent != 0) {
    auto it = impl_->stacked.find(parent);
    LayerInfo from;
    if (it != impl_->stacked.end()) {
      from = it->second.info;
      ++it->second.new_children;
    } else {
      LCFS_TRY_ASSIGN(from, impl_->outer.layer_info(parent));
      if (from.state != LayerState::kFrozen)
        return Error{Errc::kInvalid, "the parent layer is not frozen"};
    }
    s.info.root = from.root;
    s.info.root_inode = from.root_inode;
    s.info.used_blocks = from.used_blocks;
    s.info.inodes = from.inodes;
  } else {
    if (delta.nodes[0].inode == kNone) {
      LCFS_TRY(ingest.delta().add_directory("", {.permissions = 0755, .mtime = {}}));
    }
    s.info.root_inode = first + delta.nodes[0].inode;
  }
  LayerInfo open = s.info;
  open.state = LayerState::kOpen;
  s.layer = std::make_shared<LayerImpl>(store, open);

  Stacker stacker(store, *s.layer, ingest, first);
  auto ok = stacker.run(parent != 0);
  if (ok && has_digests && ingest.skeleton() != nullptr) {
    auto placed = SkeletonPlacer(store, impl_->queue, ingest.space(), delta, ingest.log())
                      .place(*ingest.skeleton());
    if (placed) {
      s.skeleton = *std::move(placed);
    } else {
      ok = std::move(placed).error();
    }
  }
  auto layer_blocks = s.layer->take_space();
  std::vector<Extent> placed = ingest.take_blocks();
  normalize(placed);
  if (!ok) {
    s.layer->discard();
    store.space.give_back(placed, false);
    store.space.give_back(layer_blocks, false);
    return std::move(ok).error();
  }
  // Data of entries that a later entry of the same layer replaced is nobody's.
  auto kept = stacker.take_kept();
  for (auto const& e : s.skeleton.extents) kept.push_back({e.block, e.sums.size()});
  normalize(kept);
  store.space.give_back(subtract(placed, kept), false);
  s.blocks = kept;
  s.blocks.insert(s.blocks.end(), layer_blocks.begin(), layer_blocks.end());
  normalize(s.blocks);
  s.info = s.layer->snapshot(s.info);
  s.info.own_blocks = 0;
  for (auto const& e : s.blocks) s.info.own_blocks += e.count;
  s.info.skeleton_blocks = s.skeleton.blocks();
  s.skeleton.info.layer = s.info.id;
  s.skeleton.info.first_inode = first;
  s.skeleton.info.blob = meta.blob;

  LayerId const id = s.info.id;
  if (has_digests) impl_->by_chain.emplace(meta.chain_id, id);
  impl_->by_name.emplace(s.info.name, id);
  impl_->stacked.emplace(id, std::move(s));
  return id;
}

Status ImportTransaction::add_image(NewImage image) {
  constexpr std::size_t kMaxDocument = 64u << 20;
  for (auto const* document : {&image.config, &image.manifest, &image.index}) {
    if (document->size() > kMaxDocument)
      return Error{Errc::kInvalid, "image document is larger than 64 MiB"};
  }
  for (auto const& name : image.names) {
    if (name.empty() || name.size() > kMaxImageName || name.find('\0') != std::string::npos) {
      return Error{Errc::kInvalid, fmt::format("image name of {} bytes; it must have 1 to {}",
                                               name.size(), kMaxImageName)};
    }
  }
  impl_->images.push_back(std::move(image));
  return {};
}

// What the history says of it.
std::string ImportTransaction::Impl::said() const {
  std::string out = what;
  std::size_t told = 0;
  auto tell = [&](std::string_view name) {
    if (out.size() + name.size() + 32 > kMaxKeptText) return;
    out += fmt::format("{}{}", told == 0 ? " " : ", ", name);
    ++told;
  };
  for (auto const& image : images) {
    if (image.names.empty()) tell(digest_hex(image.config_digest).substr(0, 12));
    for (auto const& name : image.names) tell(name);
  }
  if (images.empty()) {
    for (auto const& [id, s] : stacked) tell(s.info.name);
  }
  return out;
}

// What all of it adds to the store tree.
std::uint64_t ImportTransaction::Impl::record_blocks() const {
  std::uint64_t blocks = 0, bytes = 0;
  std::size_t runs = 0;
  for (auto const& image : images) blocks += StoreImpl::document_blocks(image);
  for (auto const& [id, s] : stacked) {
    constexpr std::uint64_t kLayerBytes = 1024;  // record, name, digests
    bytes += kLayerBytes;
    runs += s.blocks.size() + s.skeleton.extents.size();
    for (auto const& e : s.skeleton.extents) bytes += e.sums.size() * sizeof(le32);
  }
  return blocks + StoreImpl::run_blocks(runs) + 2 * bytes / kNodeSize * kNodeBlocks;
}

Status ImportTransaction::Impl::insert() {
  WriteLock lock(store.mu);
  LCFS_TRY(store.begin_structure_change(Urgency::kOrdinary, record_blocks()));
  std::uint64_t const before = store.tree.changes();
  auto put = [&]() LCFS_REQUIRES(store.mu) -> Status {
    for (auto& [id, s] : stacked) {
      // Refused before anything has changed.
      if (!s.info.has_digests) LCFS_TRY(store.check_free_name(s.info.name));
      LCFS_TRY_ASSIGN(auto const known, store.find_digest(s.info.chain_id, NameType::kLayer));
      if (known && s.info.has_digests) {
        return Error{
            Errc::kExists,
            fmt::format("layer {} was imported by someone else meanwhile; run the import again",
                        s.info.name),
            EEXIST, store.device.name(), kNoOffset};
      }
      if (s.info.parent != 0 && !stacked.contains(s.info.parent)) {
        LCFS_TRY_ASSIGN(LayerInfo parent, store.layer_record(s.info.parent));
        if (parent.state != LayerState::kFrozen) {
          return Error{
              Errc::kNotFound,
              "a layer that the image stands on was removed meanwhile; run the import again",
              ENOENT, store.device.name(), kNoOffset};
        }
      }
    }
    for (auto& [id, s] : stacked) {
      s.info.children = s.new_children;
      LCFS_TRY(store.put_layer_record(s.info));
      LCFS_TRY(store.put_name(s.info.name, id, NameType::kLayer));
      if (s.info.has_digests) LCFS_TRY(store.put_digest(s.info.chain_id, id, NameType::kLayer));
      LCFS_TRY(store.add_runs(id, s.blocks));
      if (!s.skeleton.extents.empty())
        LCFS_TRY(store.put_skeleton(s.skeleton.info, s.skeleton.extents));
      store.layer_blocks += s.info.own_blocks;
      ++store.layer_count;
      if (s.info.parent != 0 && !stacked.contains(s.info.parent)) {
        LCFS_TRY_ASSIGN(LayerInfo parent, store.layer_record(s.info.parent));
        ++parent.children;
        LCFS_TRY(store.put_layer_record(parent));
      }
    }
    for (auto const& image : images) LCFS_TRY(store.put_image_locked(image));
    return store.keep(said());
  };
  LCFS_TRY(store.end_structure_change(put(), before));
  for (auto const& entry : stacked) store.note(LayerEvent::kCreated, entry.second.info);
  noted = store.last_noted();
  return {};
}

Status ImportTransaction::commit() {
  LCFS_TRY(impl_->store.make_ready(Urgency::kOrdinary));
  LCFS_TRY(impl_->insert());
  impl_->committed = true;
  for (auto& [id, s] : impl_->stacked) s.layer.reset();
  LCFS_TRY(impl_->store.checkpoint(false));
  impl_->store.tell(impl_->noted);
  return {};
}

std::string ImportTransaction::layer_name(LayerId id) const {
  auto it = impl_->stacked.find(id);
  return it == impl_->stacked.end() ? std::string() : it->second.info.name;
}

}  // namespace lcfs
