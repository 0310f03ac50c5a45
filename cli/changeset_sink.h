// SPDX-License-Identifier: Apache-2.0
// Writes the tar of a changeset to an output stream.
#pragma once

#include <atomic>
#include <ostream>

#include "engine/snapshot.h"
#include "exporter/tar_sink.h"

namespace lcfs::cli {

// All references must outlive the sink.  Once `stop` is true, every call fails with kInterrupted; a
// failed write to `out` is kIo.  One thread.
class ChangesetSink final : public exporter::TarSink {
 public:
  ChangesetSink(LayerSnapshot& layer, std::ostream& out, std::atomic<bool> const& stop)
      : layer_(layer), out_(out), stop_(stop) {}
  Status bytes(std::span<std::byte const> bytes) override;
  Status body(Inode inode, std::uint64_t offset, std::uint64_t length) override;

 private:
  LayerSnapshot& layer_;
  std::ostream& out_;
  std::atomic<bool> const& stop_;
  AlignedBuffer buffer_{};
};

}  // namespace lcfs::cli
