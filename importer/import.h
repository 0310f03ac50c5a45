// SPDX-License-Identifier: Apache-2.0
// `lcfs import`: images out of archives into a store.
//
// Takes docker-archive and OCI archives, as files, directories or from a pipe (plan.h says which
// forms), plain or compressed. One pass, no temporary file.  Every digest is verified before
// anything becomes visible; durable when it returns; on any error, and when stopped, the store is
// as it was.  Errors: one line, path "ARCHIVE: MEMBER".
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/store.h"
#include "format/layout.h"
#include "format/result.h"

namespace lcfs::importer {

struct Progress {
  std::uint64_t bytes = 0, total = 0;         // of the archive as it is stored; total 0: not known
  std::uint32_t layers_done = 0, layers = 0;  // layers 0: not known
  std::string layer{};                        // member that was begun last
};

struct ImportOptions {
  std::string source{};              // path, or "-" for standard input
  int input = 0;                     // the descriptor that "-" means; stays the caller's
  std::vector<std::string> names{};  // images wanted; empty: all
  std::string platform{};  // "os/arch[/variant]"; empty: the host's, where there is a choice
  unsigned threads =
      0;  // layers received at the same time; 0: as many as there are cores (at most 8)
  // Called now and then, and at the end, from any thread, but never from two at once.
  std::function<void(Progress const&)> progress{};
  std::atomic<bool> const* stop = nullptr;  // true: give up with kInterrupted
};

struct ImportedLayer {
  std::string name{};
  Digest diff_id{}, chain_id{};
  std::uint64_t bytes = 0;  // of the plain tar
  bool is_new = false;      // false: the store had it
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

// What an archive holds (source, names, platform and stop of `options` count).
struct ListedImage {
  std::vector<std::string> names{};
  std::string platform{};
  Digest config_digest{}, manifest_digest{};
  std::size_t layers = 0;
  std::uint64_t bytes = 0;  // of its layers as they are stored in the archive
};
Result<std::vector<ListedImage>> list_archive(ImportOptions const& options);

}  // namespace lcfs::importer
