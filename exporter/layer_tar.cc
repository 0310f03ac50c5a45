// SPDX-License-Identifier: Apache-2.0
#include "exporter/layer_tar.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace lcfs::exporter {

Result<std::unique_ptr<LayerTar>> LayerTar::open(Store& store, LayerInfo const& info,
                                                 std::optional<std::int64_t> latest,
                                                 ChangesetTar::Skipped skipped) {
  std::unique_ptr<LayerTar> tar(new LayerTar(store, info, latest, std::move(skipped)));
  if (info.skeleton_blocks != 0) {
    LCFS_TRY_ASSIGN(tar->skeleton_, Skeleton::open(store, info.id));
  }
  if (info.state == LayerState::kFrozen) {
    LCFS_TRY_ASSIGN(tar->layer_, store.layer(info.id));
  }
  if (tar->skeleton_) return tar;
  LCFS_TRY_ASSIGN(tar->diff_, LayerDiff::open(store, info.parent, info.id));
  LCFS_TRY_ASSIGN(auto const entries, tar->diff_->run({}));
  LCFS_TRY_ASSIGN(tar->items_, changeset_of(*tar->diff_, entries));
  return tar;
}

Status LayerTar::write(TarSink& tar) {
  if (skeleton_) return write_skeleton(tar);
  return ChangesetTar(diff_->b(), tar, latest_, skipped_).write(items_);
}

Status LayerTar::write_skeleton(TarSink& tar) {
  for (;;) {
    LCFS_TRY_ASSIGN(auto const piece, skeleton_->next());
    switch (piece.kind) {
      case SkeletonPiece::kEnd: return {};
      case SkeletonPiece::kLiteral: LCFS_TRY(tar.bytes(piece.bytes)); break;
      case SkeletonPiece::kBody:
        LCFS_TRY(tar.body(skeleton_->inode_of(piece.file), piece.offset, piece.length));
        break;
    }
  }
}

Status read_from_snapshot(LayerSnapshot& layer, Layer::ReadRequest const& request,
                          AlignedBuffer& buffer) {
  if (buffer.size() == 0) buffer = AlignedBuffer(LayerSnapshot::kMaxRead);
  for (std::size_t done = 0; done < request.into.size();) {
    std::uint64_t const at = request.offset + done;
    std::size_t const skip = at % kBlockSize;
    std::size_t const n = std::min(request.into.size() - done, LayerSnapshot::kMaxRead - skip);
    LCFS_TRY(layer.read(request.inode, at - skip, buffer,
                        (skip + n + kBlockSize - 1) / kBlockSize * kBlockSize));
    std::memcpy(request.into.data() + done, buffer.data() + skip, n);
    done += n;
  }
  return {};
}

Status LayerTar::read(Layer::ReadRequest const& request) {
  return layer_ ? layer_->read_many({&request, 1})
                : read_from_snapshot(diff_->b(), request, buffer_);
}

Status LayerTar::read_bodies(std::span<Layer::ReadRequest const> requests) {
  if (layer_ && layer_->read_many(requests)) return {};
  // One at a time: the layer is writable, or a request failed and the error must name the file.
  for (auto const& request : requests) {
    auto done = read(request);
    if (done) continue;
    auto error = std::move(done).error();
    if (error.code == Errc::kFs)
      return Error::corrupt(
                 fmt::format("layer '{}': the skeleton of its tar refers to a missing file",
                             info_.name))
          .in(store_.device().name());
    LayerSnapshot names(store_, info_);
    auto const paths = names.paths(request.inode);
    error.message = fmt::format(
        "layer '{}': {}: {}", info_.name,
        paths && !paths->empty() ? paths->front() : fmt::format("inode {}", request.inode),
        error.message);
    return error;
  }
  return {};
}

}  // namespace lcfs::exporter
