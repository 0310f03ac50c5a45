// SPDX-License-Identifier: Apache-2.0
// An OCI changeset as a tar: ustar, with pax records for what ustar cannot hold.  The same
// changeset always gives the same bytes.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/diff.h"
#include "exporter/tar_sink.h"

namespace lcfs::exporter {

class ChangesetTar {
 public:
  // Gets the paths of files that a tar cannot hold (sockets).
  using Skipped = std::function<void(std::string const& path)>;

  // latest: SOURCE_DATE_EPOCH; later mtimes are set to it.
  ChangesetTar(LayerSnapshot& layer, TarSink& out, std::optional<std::int64_t> latest,
               Skipped skipped)
      : layer_(layer), out_(out), latest_(latest), skipped_(std::move(skipped)) {}

  Status write(std::vector<ChangesetItem> const& items);

 private:
  struct Member {
    std::string name{}, link{};
    char type = '0';
    InodeInfo info{};
    std::uint64_t size = 0;
    std::vector<std::pair<std::string, std::string>> pax{};
  };
  Status write_item(ChangesetItem const& item);
  Status write_header(Member member);
  void clamp(InodeInfo& info) const;

  LayerSnapshot& layer_;
  TarSink& out_;
  std::optional<std::int64_t> const latest_;
  Skipped const skipped_;
};

// One header block of a plain member (mode 0644, owner root), as in the archives that contain
// layers.
[[nodiscard]] std::string plain_tar_header(std::string_view name, std::uint64_t size,
                                           std::int64_t mtime);
// The padding after `size` bytes, up to the next block.
[[nodiscard]] std::string tar_padding(std::uint64_t size);

}  // namespace lcfs::exporter
