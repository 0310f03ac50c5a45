// SPDX-License-Identifier: Apache-2.0
// Where a file comes from: its versions in a layer and its ancestors, and the layers that own and
// share their blocks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/store.h"

namespace lcfs::verify {

struct FileRun {
  std::uint64_t file_offset = 0, device_offset = 0, bytes = 0;
  LayerId owner = 0;
};

// The change that a layer made to a path.
struct FileVersion {
  enum What : std::uint8_t {
    kAdded,
    kContent,
    kAttributes,
    kReplaced,
    kRemoved
  } what = kAdded;  // kReplaced: another inode
  LayerInfo layer{};
  Inode inode = 0;  // 0: kRemoved
  InodeInfo info{};
  std::vector<FileRun> runs{};     // of a regular file
  std::vector<LayerId> sharers{};  // other layers whose trees use any block of this version,
                                   // ascending
};

// Links among the directories of `path` are followed as the layer has them.  Ordered from the
// base to the layer; empty if the path never existed.  The last one is the current version.  A
// symlink as the last component is not followed.  `sharers` reads a few nodes of every layer based
// on an owner.
Result<std::vector<FileVersion>> file_versions(Store& store, LayerId layer, std::string_view path,
                                               bool sharers);

}  // namespace lcfs::verify
