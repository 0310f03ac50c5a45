// SPDX-License-Identifier: Apache-2.0
// Reading the skeleton of a layer back from the store.
#include "engine/skeleton.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "engine/import/skeleton_stream.h"
#include "engine/store/store_impl.h"
#include "format/hash.h"

namespace lcfs {

struct Skeleton::State {
  State(StoreImpl& of, std::shared_ptr<Layer> held, std::string called, SkeletonInfo what)
      : store(of),
        layer(std::move(held)),
        name(std::move(called)),
        info(std::move(what)),
        left(info.size),
        decoder([this] { return read(); }) {}
  Result<std::span<std::byte const>> read();

  StoreImpl& store;
  std::shared_ptr<Layer> layer;
  std::string name;
  SkeletonInfo info;
  std::vector<SkeletonExtent> extents{};
  std::size_t next = 0;    // extent to read
  std::uint64_t left = 0;  // bytes of the stream still to read
  AlignedBuffer buffer{};
  SkeletonDecoder decoder;
};

Skeleton::Skeleton(std::unique_ptr<State> state) : state_(std::move(state)) {}
Skeleton::~Skeleton() = default;
BlobInfo const& Skeleton::blob() const { return state_->info.blob; }
Inode Skeleton::inode_of(std::uint64_t file) const { return state_->info.first_inode + file; }

Result<std::unique_ptr<Skeleton>> Skeleton::open(Store& store, LayerId id) {
  LCFS_TRY_ASSIGN(auto layer, store.layer(id));
  auto& impl = inside(store);
  ReadLock lock(impl.catalog.mutex());
  LCFS_TRY_ASSIGN(auto const record, impl.catalog.layers.live(id));
  LCFS_TRY_ASSIGN(auto const found, impl.catalog.tree.read().get({id, kSkeleton, 0}));
  if (!found) return std::unique_ptr<Skeleton>();
  LCFS_TRY_ASSIGN(auto info, parse_skeleton(found->key, found->value));
  auto state = std::make_unique<State>(impl, std::move(layer), record.name, std::move(info));
  std::uint64_t at = 0;
  LCFS_TRY(scan(impl.catalog.tree.read(), {id, kSkeletonExtent, 0}, {id, kSkeletonExtent, ~0ull},
                [&](Key const& key, Bytes value) -> Result<bool> {
                  LCFS_TRY_ASSIGN(auto const extent,
                                  parse_skeleton_extent(key, value, impl.space.total()));
                  if (key.offset != at)
                    return Error::corrupt(fmt::format(
                        "layer '{}': a part of its tar's skeleton is missing", record.name));
                  at += std::uint64_t{extent.count} * kBlockSize;
                  SkeletonExtent e{extent.block, {}};
                  for (auto const sum : extent.checksums) e.sums.push_back(sum.get());
                  state->extents.push_back(std::move(e));
                  return true;
                }));
  if (at < state->info.size || at - state->info.size >= kBlockSize) {
    return Error::corrupt(
        fmt::format("layer '{}': a part of its tar's skeleton is missing", record.name));
  }
  return std::unique_ptr<Skeleton>(new Skeleton(std::move(state)));
}

Result<std::span<std::byte const>> Skeleton::State::read() {
  if (next == extents.size()) return std::span<std::byte const>{};
  if (!buffer) buffer = AlignedBuffer(kMaxExtentBlocks * kBlockSize);
  auto const& e = extents[next++];
  auto const bytes = buffer.span().first(e.sums.size() * kBlockSize);
  LCFS_TRY(store.device.read(e.block * kBlockSize, bytes));
  for (std::size_t i = 0; i < e.sums.size(); ++i) {
    if (crc32c(bytes.subspan(i * kBlockSize, kBlockSize)) != e.sums[i]) {  // I6
      store.data_failures.fetch_add(1, std::memory_order_relaxed);
      return Error::corrupt(
                 fmt::format("layer '{}': data checksum of its tar's skeleton does not match",
                             name))
          .in(store.device.name())
          .at((e.block + i) * kBlockSize);
    }
  }
  auto const used = std::min<std::uint64_t>(left, bytes.size());
  left -= used;
  return std::span<std::byte const>(bytes.first(used));
}

Result<SkeletonPiece> Skeleton::next() {
  auto piece = state_->decoder.next();
  if (!piece && piece.error().path.empty()) {
    piece.error().message = fmt::format("layer '{}': {}", state_->name, piece.error().message);
    piece.error().path = state_->store.device.name();
  }
  return piece;
}

}  // namespace lcfs
