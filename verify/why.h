// SPDX-License-Identifier: Apache-2.0
// Where a file comes from: its versions along a layer's ancestry, and who owns and shares their
// blocks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/store.h"

namespace lcfs {

struct FileRun {
  std::uint64_t file_offset = 0, device_offset = 0, bytes = 0;
  LayerId owner = 0;
};

// What a layer did to a path.
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
  std::vector<LayerId> sharers{};  // other layers whose trees reach all of this content, or any
                                   // block of it: ascending
};

// Links among the directories of `path` are followed as the layer has them.  From the base up to
// the layer; empty if no layer of them ever had the path.  The last one is what the layer has now.
// Symlinks are not followed.  `sharers` looks at every layer above the owners: as long as reading a
// few nodes of each takes.
Result<std::vector<FileVersion>> file_versions(Store& store, LayerId layer, std::string_view path,
                                               bool sharers);

}  // namespace lcfs
