// SPDX-License-Identifier: Apache-2.0
// The tar of a layer for export: the one it was imported from if its skeleton is kept, else a new
// one, which is a changeset against its parent.  A writable layer is read as of open().
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/diff.h"
#include "engine/skeleton.h"
#include "engine/store.h"
#include "exporter/changeset_tar.h"

namespace lcfs::exporter {

// For one thread, except that several may call read_bodies() of a frozen layer.
class LayerTar {
 public:
  // latest: SOURCE_DATE_EPOCH.  Both apply to new tars only.
  static Result<std::unique_ptr<LayerTar>> open(Store& store, LayerInfo const& info,
                                                std::optional<std::int64_t> latest,
                                                ChangesetTar::Skipped skipped);

  // The imported blob; null: the layer gets a new tar.
  [[nodiscard]] BlobInfo const* original() const {
    return skeleton_ ? &skeleton_->blob() : nullptr;
  }

  Status write(TarSink& tar);
  // Reads bodies of files for the sink of write().  Errors name layer and path.
  Status read_bodies(std::span<Layer::ReadRequest const> requests);
  // True if several threads may call read_bodies() at once, also while write() runs.
  [[nodiscard]] bool concurrent_reads() const { return layer_ != nullptr; }

 private:
  LayerTar(Store& store, LayerInfo info, std::optional<std::int64_t> latest,
           ChangesetTar::Skipped skipped)
      : store_(store), info_(std::move(info)), latest_(latest), skipped_(std::move(skipped)) {}
  Status write_skeleton(TarSink& tar);
  Status read(Layer::ReadRequest const& request);

  Store& store_;
  LayerInfo const info_;
  std::optional<std::int64_t> const latest_;
  ChangesetTar::Skipped const skipped_;
  std::unique_ptr<Skeleton> skeleton_{};
  std::shared_ptr<Layer> layer_{};      // used for frozen layers
  std::unique_ptr<LayerDiff> diff_{};   // of a new tar
  std::vector<ChangesetItem> items_{};  // likewise
  AlignedBuffer buffer_{};
};

// Reads the bytes of `request` from a snapshot.
Status read_from_snapshot(LayerSnapshot& layer, Layer::ReadRequest const& request,
                          AlignedBuffer& buffer);

}  // namespace lcfs::exporter
