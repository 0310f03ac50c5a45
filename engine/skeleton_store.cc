// SPDX-License-Identifier: Apache-2.0
// Skeletons in the store: their records, and reading them back.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "engine/skeleton.h"
#include "engine/store_impl.h"
#include "format/hash.h"

namespace lcfs {

Status StoreImpl::put_skeleton(SkeletonInfo const& info,
                               std::vector<SkeletonExtent> const& extents) {
  LCFS_TRY(tree.put({info.layer, kSkeleton, 0}, as_bytes(encode_skeleton(info))));
  std::uint64_t at = 0;
  std::vector<le32> words;
  std::vector<std::byte> record;
  for (auto const& e : extents) {
    words.clear();
    for (std::uint32_t const sum : e.sums) words.emplace_back(sum);
    encode_extent({e.block, info.layer, static_cast<std::uint32_t>(e.sums.size()), words}, record);
    LCFS_TRY(tree.put({info.layer, kSkeletonExtent, at}, record));
    at += e.sums.size() * kBlockSize;
  }
  return {};
}

// At most kMaxSkeleton / 1 MiB records when all extents are full: a removal stays short (I9).
Status StoreImpl::erase_skeleton(LayerId id) {
  return tree.erase_range({id, kSkeleton, 0}, {id, kSkeletonExtent, ~0ull}, nullptr);
}

Skeleton::Skeleton(Store& store, std::shared_ptr<Layer> layer, std::string name, SkeletonInfo info)
    : store_(store),
      layer_(std::move(layer)),
      name_(std::move(name)),
      info_(std::move(info)),
      left_(info_.size),
      decoder_([this] { return read(); }) {}

Result<std::unique_ptr<Skeleton>> Skeleton::open(Store& store, LayerId id) {
  LCFS_TRY_ASSIGN(auto layer, store.layer(id));
  auto& impl = store.impl();
  ReadLock lock(impl.mu);
  LCFS_TRY_ASSIGN(auto const record, impl.live_record(id));
  LCFS_TRY_ASSIGN(auto const found, impl.tree.get({id, kSkeleton, 0}));
  if (!found) return std::unique_ptr<Skeleton>();
  LCFS_TRY_ASSIGN(auto info, parse_skeleton(found->key, found->value));
  std::unique_ptr<Skeleton> skeleton(
      new Skeleton(store, std::move(layer), record.name, std::move(info)));
  std::uint64_t at = 0;
  LCFS_TRY(scan(impl.tree, {id, kSkeletonExtent, 0}, {id, kSkeletonExtent, ~0ull},
                [&](Key const& key, Bytes value) -> Result<bool> {
                  LCFS_TRY_ASSIGN(auto const extent,
                                  parse_skeleton_extent(key, value, impl.space.total()));
                  if (key.offset != at)
                    return Error{Errc::kCorrupt,
                                 fmt::format("layer '{}': a part of its tar's skeleton is missing",
                                             record.name)};
                  at += std::uint64_t{extent.count} * kBlockSize;
                  SkeletonExtent e{extent.block, {}};
                  for (auto const sum : extent.checksums) e.sums.push_back(sum.get());
                  skeleton->extents_.push_back(std::move(e));
                  return true;
                }));
  if (at < skeleton->info_.size || at - skeleton->info_.size >= kBlockSize) {
    return Error{Errc::kCorrupt,
                 fmt::format("layer '{}': a part of its tar's skeleton is missing", record.name)};
  }
  return skeleton;
}

Result<std::span<std::byte const>> Skeleton::read() {
  if (next_ == extents_.size()) return std::span<std::byte const>{};
  if (!buffer_) buffer_ = AlignedBuffer(kMaxExtentBlocks * kBlockSize);
  auto const& e = extents_[next_++];
  auto const bytes = buffer_.span().first(e.sums.size() * kBlockSize);
  auto& impl = store_.impl();
  LCFS_TRY(impl.device.read(e.block * kBlockSize, bytes));
  for (std::size_t i = 0; i < e.sums.size(); ++i) {
    if (crc32c(bytes.subspan(i * kBlockSize, kBlockSize)) != e.sums[i]) {  // I6
      impl.data_failures.fetch_add(1, std::memory_order_relaxed);
      return Error{
          Errc::kCorrupt,
          fmt::format("layer '{}': data checksum of its tar's skeleton does not match", name_), EIO,
          impl.device.name(), (e.block + i) * kBlockSize};
    }
  }
  auto const used = std::min<std::uint64_t>(left_, bytes.size());
  left_ -= used;
  return std::span<std::byte const>(bytes.first(used));
}

Result<SkeletonPiece> Skeleton::next() {
  auto piece = decoder_.next();
  if (!piece && piece.error().path.empty()) {
    piece.error().message = fmt::format("layer '{}': {}", name_, piece.error().message);
    piece.error().path = store_.impl().device.name();
  }
  return piece;
}

}  // namespace lcfs
