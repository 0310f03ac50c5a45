// SPDX-License-Identifier: Apache-2.0
// From a layer's tar entries to the engine: data to the Ingest, names and attributes to its Delta.
// Specification: OCI image-spec layer.md, "Representing Changes".
#pragma once

#include "engine/import.h"
#include "importer/tar_reader.h"

namespace lcfs::importer {

// One per layer blob; one thread.  Errors name the entry in the message and, where the entry is to blame, its offset in the
// plain tar; errors of the engine (no space, I/O) are handed on as they are.
class LayerSink final : public TarHandler {
 public:
  explicit LayerSink(Ingest& ingest) : ingest_(ingest) {}

  Status entry(TarEntry&& entry) override;
  Status data(std::span<std::byte const> bytes) override;
  Status hole(std::uint64_t length) override;
  Status end_entry() override;

 private:
  Status add(TarEntry& entry);
  [[nodiscard]] Error blame(TarEntry const& entry, Error error) const;

  Ingest& ingest_;
  TarEntry file_{};       // whose data is coming
  bool receiving_ = false;
};

}  // namespace lcfs::importer
