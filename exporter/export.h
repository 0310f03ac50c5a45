// SPDX-License-Identifier: Apache-2.0
// `lcfs export`: images and layers of a store as an archive that other tools load.
//
// Layers that were imported come out with the same diff_ids, images with the same config and so the
// same id; where a blob's encoder is one of those we know (plain, zlib's, libzstd's, our own), the
// blob is the same too, and if all of an image's are, its manifest is.  Each is checked against the
// digest recorded, and what each came to is reported.  Other layers get new tars, always the same.
//
// Every byte of a file is checked on its way.  On any error nothing stands under the final name.
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

// From the most to the least: the manifest too is as it came; the blob; the plain tar; the files
// and their attributes.
enum class Identical : std::uint8_t { kManifest, kBlob, kDiffId, kContent };
[[nodiscard]] char const* identical_text(Identical identical);

struct ExportOptions {
  std::vector<std::string> names{};  // images or layers, as Store::resolve() takes them
  // Where to: exactly one of them.  A path that ends in a slash or is a directory gets an OCI
  // layout (kOci only).
  std::string path{};
  ByteSink* stream = nullptr;
  std::string spool = "/tmp";  // for `stream`: a directory for files without names
  Format format = Format::kOci;
  Compress compress = Compress::kOriginal;
  std::optional<std::int64_t>
      latest{};          // SOURCE_DATE_EPOCH: of new tars, configs, and the archive's members
  unsigned threads = 0;  // that compress; 0: as many as there are cores
  std::atomic<bool> const* stop = nullptr;
  std::function<void(std::uint64_t done, std::uint64_t total, std::string const& layer)>
      progress{};  // bytes of plain tars; any thread
  std::function<void(std::string const& layer, std::string const& path)>
      skipped{};  // what a tar can't hold: sockets
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

// kNotFound, kInvalid (ambiguous), kCorrupt, kIo, kNoSpace, kInterrupted.
Result<ExportReport> export_archive(Store& store, ExportOptions const& options);

}  // namespace lcfs::exporter
