// SPDX-License-Identifier: Apache-2.0
// `lcfs import`: imports images from archives into a store.
//
// Reads docker-archive and OCI archives from files, directories or a pipe (plan.h lists the forms),
// plain or compressed, in one pass and without temporary files.  Verifies every digest before
// anything becomes visible.  The images are durable when the call returns; after an error, and when
// stopped, the store is unchanged.  Errors: one line, path "ARCHIVE: MEMBER".
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/store.h"
#include "format/layout.h"

namespace lcfs::importer {

struct Progress {
  std::uint64_t bytes = 0, total = 0;         // of the archive as stored; total 0: unknown
  std::uint32_t layers_done = 0, layers = 0;  // layers 0: unknown
  std::string layer{};                        // member that was started last
};

struct ImportOptions {
  std::string source{};              // a path, or "-" for `input`
  int input = 0;                     // the descriptor for "-"; owned by the caller
  std::vector<std::string> names{};  // images to import; empty: all
  std::string platform{};  // "os/arch[/variant]"; empty: the host's, where there is a choice
  unsigned threads = 0;    // layers received at the same time; 0: one per core, at most 8
  // Called from time to time and at the end, from any thread, but never from two at once.
  std::function<void(Progress const&)> progress{};
  // When it becomes true, the import fails with kInterrupted.
  std::atomic<bool> const* stop = nullptr;
};

struct ImportedLayer {
  std::string name{};
  Digest diff_id{}, chain_id{};
  std::uint64_t bytes = 0;  // of the plain tar
  bool is_new = false;      // false: the store already had it
};

struct ImportedImage {
  std::vector<std::string> names{};
  Digest config_digest{}, manifest_digest{};  // config_digest is the image id
  std::optional<std::string> top_layer{};
  std::vector<ImportedLayer> layers{};  // base first
};

struct ImportReport {
  std::vector<ImportedImage> images{};
  double seconds = 0;
  std::uint64_t bytes_read = 0;
};

Result<ImportReport> import_archive(Store& store, ImportOptions const& options);

// Lists the images of an archive.  Uses source, names, platform and stop of `options`.
struct ListedImage {
  std::vector<std::string> names{};
  std::string platform{};
  Digest config_digest{}, manifest_digest{};
  std::size_t layers = 0;
  std::uint64_t bytes = 0;  // of its layers as they are stored in the archive
};
Result<std::vector<ListedImage>> list_archive(ImportOptions const& options);

}  // namespace lcfs::importer
