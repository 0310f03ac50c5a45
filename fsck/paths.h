// SPDX-License-Identifier: Apache-2.0
// Names for people: where an inode is in a layer, found from its back references.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fsck/node_source.h"

namespace lcfs::fsck {

// The first path of `inode` in the tree, from "/"; "?/..." if it can't be followed up to the root,
// "" if nothing names it.
std::string path_of(NodeSource& source, NodePtr const& tree, std::uint64_t root_inode,
                    std::uint64_t inode);

// All its names, at most `most`, as path_of() gives them.
std::vector<std::string> paths_of(NodeSource& source, NodePtr const& tree, std::uint64_t root_inode,
                                  std::uint64_t inode, std::size_t most);

}  // namespace lcfs::fsck
