// SPDX-License-Identifier: Apache-2.0
// A layer of a store as the tar that it is exported as: the one it was imported from if its
// skeleton is kept, else a new one, a changeset against its parent.  An open layer is taken as it
// is when this is opened.
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

// One layer, one thread, but for read_bodies() of a frozen one.
class LayerTar {
 public:
  // latest: SOURCE_DATE_EPOCH.  Both count for new tars only.
  static Result<std::unique_ptr<LayerTar>> open(Store& store, LayerInfo const& info,
                                                std::optional<std::int64_t> latest,
                                                ChangesetTar::Skipped skipped);

  // The blob it came in; null: it gets a new tar.
  [[nodiscard]] BlobInfo const* original() const {
    return skeleton_ ? &skeleton_->blob() : nullptr;
  }

  Status write(TarSink& tar);
  // Bodies of files, for whoever takes the tar.  Errors name layer and path.
  Status read_bodies(std::span<Layer::ReadRequest const> requests);
  // It may be called by several threads at once, also while write() runs.
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
  std::shared_ptr<Layer> layer_{};      // frozen ones are read by it
  std::unique_ptr<LayerDiff> diff_{};   // of a new tar
  std::vector<ChangesetItem> items_{};  // likewise
  AlignedBuffer buffer_{};
};

// Reads what `requests` name from a snapshot, one after the other.
Status read_from_snapshot(LayerSnapshot& layer, Layer::ReadRequest const& request,
                          AlignedBuffer& buffer);

}  // namespace lcfs::exporter
