// SPDX-License-Identifier: Apache-2.0
// From a layer's tar entries to the engine: data to the Ingest, names and attributes to its Delta.
// Specification: OCI image-spec layer.md, "Representing Changes".
#pragma once

#include <cstdint>
#include <vector>

#include "engine/import.h"
#include "importer/tar_reader.h"
#include "importer/whiteout.h"

namespace lcfs::importer {

// One per layer blob; one thread.  Errors name the entry in the message and, where the entry is to
// blame, its offset in the plain tar; errors of the engine (no space, I/O) are handed on as they
// are.
class LayerSink final : public TarHandler {
 public:
  // `free_bytes`: of the store.  Entries that can't fit are refused as they come, before they fill
  // the memory.
  LayerSink(Ingest& ingest, std::uint64_t free_bytes) : ingest_(ingest), free_bytes_(free_bytes) {
    ingest_.keep_tar();
  }

  Status entry(TarEntry&& entry) override;
  Status data(std::span<std::byte const> bytes) override;
  Status hole(std::uint64_t length) override;
  Status end_entry() override;
  Status other(std::span<std::byte const> bytes) override;

 private:
  Status add(TarEntry& entry);
  Status check_room(TarEntry const& entry, Whiteout const& whiteout);
  [[nodiscard]] Error blame(TarEntry const& entry, Error error) const;

  Ingest& ingest_;
  std::uint64_t free_bytes_;
  std::uint64_t stored_ = 0;  // bytes of xattrs and symlinks so far
  std::uint64_t kept_ = 0;    // of what waits in memory only: whiteouts, targets of hard links
  TarEntry file_{};           // whose data is coming
  bool receiving_ = false;
  std::uint64_t position_ = 0;       // in that file
  std::vector<SparsePart> parts_{};  // of that file, that the archive had data for
};

}  // namespace lcfs::importer
