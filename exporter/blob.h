// SPDX-License-Identifier: Apache-2.0
// Makes the blob of a layer:
//
//   tar (skeleton or changeset; file bodies in large reads) -> { SHA-256 of the plain tar | encoder
//   -> SHA-256 -> out }
//
// Planning, reading (several pieces at once), hashing and encoding have threads of their own,
// connected by bounded queues.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>

#include "engine/layer.h"
#include "exporter/encoder.h"
#include "exporter/tar_sink.h"

namespace lcfs::exporter {

struct MadeBlob {
  Digest digest{}, diff_id{};
  std::uint64_t size = 0, plain_bytes = 0;
  BlobCompression compression = BlobCompression::kNone;
};

struct BlobPlan {
  std::function<Status(TarSink& tar)> write_tar{};  // called in another thread
  std::function<Status(std::span<Layer::ReadRequest const> requests)> read_bodies{};  // likewise
  // read_bodies may be called by several threads at once, also while write_tar runs.
  bool concurrent_reads = false;
  Encoding encoding{};                 // used if `original` is not given or cannot be reproduced
  std::optional<BlobInfo> original{};  // the imported blob; reproduced if its encoder is known
  std::uint64_t plain_bytes = 0;       // of the tar, where original is given
  unsigned threads = 1;
  std::atomic<bool> const* stop = nullptr;
  std::function<void(std::uint64_t)> on_plain{};  // gets the number of further bytes; any thread
};

Result<MadeBlob> make_blob(BlobPlan const& plan, ByteSink& out);

}  // namespace lcfs::exporter
