// SPDX-License-Identifier: Apache-2.0
// `lcfs export`: writes images and layers of a store to an archive that other tools load.
//
// Imported layers keep their diff_ids, and images keep their config and so their id.  If the
// encoder of a blob is known (none, zlib, libzstd, ours), the blob is identical too, and if all
// blobs of an image are, so is its manifest.  Each is checked against the recorded digest, and the
// report says what is identical.  Other layers get new tars, which are reproducible.
//
// The checksum of all file data is verified.  After an error nothing exists under the final name.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/store.h"
#include "exporter/tar_sink.h"

namespace lcfs::exporter {

enum class Format : std::uint8_t { kOci, kDocker };
enum class Compress : std::uint8_t { kOriginal, kGzip, kZstd, kNone };

// What is identical to the import, from most to least: the manifest too; the blob; the plain tar;
// the files and their attributes.
enum class Identical : std::uint8_t { kManifest, kBlob, kDiffId, kContent };
[[nodiscard]] char const* identical_text(Identical identical);

struct ExportOptions {
  std::vector<std::string> names{};  // images or layers, as Store::resolve() takes them
  // The output: exactly one of `path` and `stream`.  A path that ends in a slash or is a directory
  // gets an OCI layout (kOci only).
  std::string path{};
  ByteSink* stream = nullptr;
  std::string spool = "/tmp";  // for `stream`: a directory for unnamed temporary files
  Format format = Format::kOci;
  Compress compress = Compress::kOriginal;
  // SOURCE_DATE_EPOCH: of new tars, configs, and the archive's members.
  std::optional<std::int64_t> latest{};
  unsigned threads = 0;  // for compression; 0: one per core
  std::atomic<bool> const* stop = nullptr;
  std::function<void(std::uint64_t done, std::uint64_t total, std::string const& layer)>
      progress{};  // bytes of plain tars; any thread
  std::function<void(std::string const& layer, std::string const& path)>
      skipped{};  // files that a tar cannot hold: sockets
};

struct ExportedLayer {
  std::string name{};
  Digest diff_id{}, digest{};
  std::uint64_t plain_bytes = 0, size = 0;
  Identical identical = Identical::kContent;
};

struct ExportedImage {
  std::vector<std::string> names{};
  Digest config_digest{}, manifest_digest{};  // manifest_digest: kOci
  std::vector<ExportedLayer> layers{};        // base first
};

struct ExportReport {
  std::vector<ExportedImage> images{};
  std::uint64_t bytes = 0;  // written
  double seconds = 0;
};

// Errors: kNotFound, kInvalid (ambiguous name), kCorrupt, kIo, kNoSpace, kInterrupted.
Result<ExportReport> export_archive(Store& store, ExportOptions const& options);

}  // namespace lcfs::exporter
