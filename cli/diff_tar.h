// SPDX-License-Identifier: Apache-2.0
// An OCI changeset as a tar: ustar, with pax records where ustar ends.  The same changeset gives the same bytes.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "engine/diff.h"

namespace lcfs::cli {

class ChangesetTar {
 public:
  // latest: later mtimes become this (SOURCE_DATE_EPOCH).  `stop` ends it with kInterrupted.
  ChangesetTar(LayerSnapshot& layer, std::ostream& out, std::optional<std::int64_t> latest, std::atomic<bool> const& stop)
      : layer_(layer), out_(out), latest_(latest), stop_(stop) {}
  // skipped: told the path of what a tar can't hold (sockets).
  Status write(std::vector<ChangesetItem> const& items, std::function<void(std::string const&)> const& skipped);

 private:
  struct Member {
    std::string name{}, link{};
    char type = '0';
    InodeInfo info{};
    std::uint64_t size = 0;
    std::vector<std::pair<std::string, std::string>> pax{};
  };
  Status write_item(ChangesetItem const& item, std::function<void(std::string const&)> const& skipped);
  Status write_header(Member member);
  Status write_data(Inode inode, std::uint64_t size);
  Status put(std::string_view bytes);
  void clamp(InodeInfo& info) const;

  LayerSnapshot& layer_;
  std::ostream& out_;
  std::optional<std::int64_t> const latest_;
  std::atomic<bool> const& stop_;
  AlignedBuffer buffer_{};
};

}  // namespace lcfs::cli
