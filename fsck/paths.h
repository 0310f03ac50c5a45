// SPDX-License-Identifier: Apache-2.0
// Paths of inodes for messages, found from their back references.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fsck/node_source.h"

namespace lcfs::fsck {

// The first path of `inode` in the tree, from "/"; "?/..." if the way up to the root is damaged,
// "" if it has no name.
std::string path_of(NodeSource& source, NodePtr const& tree, std::uint64_t root_inode,
                    std::uint64_t inode);

// All paths of the inode, at most `most`, in the form of path_of().
std::vector<std::string> paths_of(NodeSource& source, NodePtr const& tree, std::uint64_t root_inode,
                                  std::uint64_t inode, std::size_t most);

}  // namespace lcfs::fsck
