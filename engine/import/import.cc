// SPDX-License-Identifier: Apache-2.0
#include "engine/import.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "engine/import/ingest.h"
#include "engine/import/skeleton_place.h"
#include "engine/import/stack.h"
#include "engine/layer/layer_tree.h"
#include "engine/store/store_impl.h"

namespace lcfs {

struct ImportTransaction::Impl {
  Impl(Store& s, std::string operation)
      : outer(s), store(inside(s)), queue(store.device), what(std::move(operation)) {}

  struct Stacked {
    LayerInfo info{};
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
  for (auto& [id, s] : impl_->stacked)
    impl_->store.space.give_back(s.blocks, false);  // no checkpoint ever named them
}

Result<std::unique_ptr<Ingest>> ImportTransaction::begin_layer() {
  LCFS_TRY(impl_->store.health.check_writable());
  // Space that a removal freed a moment ago still waits for two checkpoints.  A store that is
  // nearly full needs it now.
  auto const space = impl_->store.space.counts();
  if (space.pending != 0 && space.free < impl_->store.space.total() / 2)
    LCFS_TRY(impl_->store.room.settle());
  return std::make_unique<Ingest>(std::make_unique<IngestImpl>(impl_->store, impl_->queue));
}

Result<std::string> ImportTransaction::Impl::free_name(Digest const& chain_id) const {
  std::string const hex = digest_hex(chain_id);
  ReadLock lock(store.catalog.mutex());
  for (std::size_t n = 12; n <= hex.size(); n += 4) {
    std::string name = hex.substr(0, n);
    LCFS_TRY_ASSIGN(auto const taken, store.catalog.names.find(name));
    if (!taken && !by_name.contains(name)) return name;
  }
  return Error::exists(fmt::format("every name made of {} is taken", hex));
}

Result<LayerId> ImportTransaction::stack(Ingest& base, LayerId parent, LayerMeta const& meta) {
  auto& ingest = base.impl();
  auto& store = impl_->store;
  LCFS_TRY(ingest.finish());
  bool const has_digests = meta.name.empty();
  if (has_digests) {
    if (auto it = impl_->by_chain.find(meta.chain_id); it != impl_->by_chain.end())
      return it->second;
  }

  Impl::Stacked s;
  s.info.id = s.info.serve_id = store.ids.take();
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
    ReadLock lock(store.catalog.mutex());
    LCFS_TRY(store.catalog.names.check_free(meta.name));
    s.info.name = meta.name;
  }

  auto& delta = ingest.delta().impl();
  // Stacking cannot wait once it has begun: what it may need is made free before, at the cost of
  // history if need be.
  LCFS_TRY(store.room.make_slack(delta.files.size() + 4096));
  Inode const first = store.ids.take_inodes(delta.files.size() + delta.implied + 1);
  if (parent != 0) {
    auto it = impl_->stacked.find(parent);
    LayerInfo from;
    if (it != impl_->stacked.end()) {
      from = it->second.info;
      ++it->second.new_children;
    } else {
      LCFS_TRY_ASSIGN(from, impl_->outer.layer_info(parent));
      if (from.state != LayerState::kFrozen)
        return Error::invalid("the parent layer is writable; freeze it first");
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
  LayerTree tree({store.cache, store.space, store.device, store.hash_seed}, s.info);
  Stacker stacker(store, tree, ingest, first);
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
  auto layer_blocks = tree.take_net();
  std::vector<Extent> placed = ingest.take_blocks();
  normalize(placed);
  if (!ok) {
    tree.abandon();
    store.space.give_back(placed, false);
    store.space.give_back(layer_blocks, false);
    return std::move(ok).error();
  }
  // Data of entries that a later entry of the same layer replaced is not needed.
  auto kept = stacker.take_kept();
  for (auto const& e : s.skeleton.extents) kept.push_back({e.block, e.sums.size()});
  normalize(kept);
  store.space.give_back(subtract(placed, kept), false);
  s.blocks = kept;
  s.blocks.insert(s.blocks.end(), layer_blocks.begin(), layer_blocks.end());
  normalize(s.blocks);
  s.info = tree.describe(s.info);
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
      return Error::invalid("image document is larger than 64 MiB");
  }
  for (auto const& name : image.names) {
    if (name.empty() || name.size() > kMaxImageName || name.find('\0') != std::string::npos) {
      return Error::invalid(
          fmt::format("image name of {} bytes; it must have 1 to {}", name.size(), kMaxImageName));
    }
  }
  impl_->images.push_back(std::move(image));
  return {};
}

// The operation's text in the history.
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

// How many blocks all of it adds to the store tree.
std::uint64_t ImportTransaction::Impl::record_blocks() const {
  std::uint64_t blocks = 0, bytes = 0;
  std::size_t runs = 0;
  for (auto const& image : images) blocks += ImageTable::document_blocks(image);
  for (auto const& [id, s] : stacked) {
    constexpr std::uint64_t kLayerBytes = 1024;  // record, name, digests
    bytes += kLayerBytes;
    runs += s.blocks.size() + s.skeleton.extents.size();
    for (auto const& e : s.skeleton.extents) bytes += e.sums.size() * sizeof(le32);
  }
  return blocks + run_blocks(runs) + 2 * bytes / kNodeSize * kNodeBlocks;
}

Status ImportTransaction::Impl::insert() {
  WriteLock lock(store.catalog.mutex());
  auto put = [&]() LCFS_REQUIRES(structure) -> Status {
    for (auto& [id, s] : stacked) {
      // Refuses before anything has changed.
      if (!s.info.has_digests) LCFS_TRY(store.catalog.names.check_free(s.info.name));
      LCFS_TRY_ASSIGN(auto const known,
                      store.catalog.names.find_digest(s.info.chain_id, NameType::kLayer));
      if (known && s.info.has_digests) {
        return Error::exists(
                   fmt::format("another process imported layer {} meanwhile; run the import again",
                               s.info.name))
            .in(store.device.name());
      }
      if (s.info.parent != 0 && !stacked.contains(s.info.parent)) {
        LCFS_TRY_ASSIGN(LayerInfo parent, store.catalog.layers.record(s.info.parent));
        if (parent.state != LayerState::kFrozen) {
          return Error::not_found(
                     "a layer that the image is based on was removed meanwhile; run the import "
                     "again")
              .in(store.device.name());
        }
      }
    }
    for (auto& [id, s] : stacked) {
      s.info.children = s.new_children;
      LCFS_TRY(store.catalog.layers.put(s.info));
      LCFS_TRY(store.catalog.names.put(s.info.name, id, NameType::kLayer));
      if (s.info.has_digests)
        LCFS_TRY(store.catalog.names.put_digest(s.info.chain_id, id, NameType::kLayer));
      LCFS_TRY(store.catalog.layers.add_runs(id, s.blocks));
      if (!s.skeleton.extents.empty())
        LCFS_TRY(store.catalog.layers.put_skeleton(s.skeleton.info, s.skeleton.extents));
      store.catalog.layers.count_new(s.info.own_blocks);
      if (s.info.parent != 0 && !stacked.contains(s.info.parent)) {
        LCFS_TRY_ASSIGN(LayerInfo parent, store.catalog.layers.record(s.info.parent));
        ++parent.children;
        LCFS_TRY(store.catalog.layers.put(parent));
      }
    }
    for (auto const& image : images) LCFS_TRY(store.catalog.images.put(image));
    return store.history.keep(said());
  };
  LCFS_TRY(store.catalog.tree.change(Urgency::kOrdinary, record_blocks(), put));
  for (auto const& entry : stacked) store.events.note(LayerEvent::kCreated, entry.second.info);
  noted = store.events.last_noted();
  return {};
}

Status ImportTransaction::commit() {
  LCFS_TRY(impl_->store.room.make_ready(Urgency::kOrdinary));
  LCFS_TRY(impl_->insert());
  impl_->committed = true;
  return impl_->store.finish(impl_->noted);
}

std::string ImportTransaction::layer_name(LayerId id) const {
  auto it = impl_->stacked.find(id);
  return it == impl_->stacked.end() ? std::string() : it->second.info.name;
}

}  // namespace lcfs
