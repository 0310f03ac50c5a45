// SPDX-License-Identifier: Apache-2.0
// Passes the entries of a layer's tar to the engine: data to the Ingest, names and attributes to
// its Delta. Specification: OCI image-spec layer.md, "Representing Changes".
#pragma once

#include <cstdint>
#include <vector>

#include "engine/import.h"
#include "importer/tar_reader.h"
#include "oci/whiteout.h"

namespace lcfs::importer {

// One per layer blob; one thread.  Errors name the entry in the message and, where the entry is
// the cause, its offset in the plain tar; errors of the engine (no space, I/O) are returned
// unchanged.
class LayerSink final : public TarHandler {
 public:
  // `free_bytes`: of the store.  Entries that cannot fit fail at once, before they fill the memory.
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
  Status check_room(TarEntry const& entry, oci::Whiteout const& whiteout);
  [[nodiscard]] Error blame(TarEntry const& entry, Error error) const;

  Ingest& ingest_;
  std::uint64_t free_bytes_;
  std::uint64_t stored_ = 0;  // bytes of xattrs and symlinks so far
  std::uint64_t kept_ = 0;    // bytes held only in memory: whiteouts, targets of hard links
  TarEntry file_{};           // whose data comes next
  bool receiving_ = false;
  std::uint64_t position_ = 0;       // in that file
  std::vector<SparsePart> parts_{};  // parts of that file with data in the archive
};

}  // namespace lcfs::importer
