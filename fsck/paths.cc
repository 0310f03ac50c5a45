// SPDX-License-Identifier: Apache-2.0
#include "fsck/paths.h"

#include "fsck/tree_walk.h"

namespace lcfs::fsck {

std::string path_of(NodeSource& source, NodePtr const& tree, std::uint64_t root_inode,
                    std::uint64_t inode) {
  constexpr int kMaxSteps = 4096;  // a damaged directory may contain itself
  if (inode == root_inode) return "/";
  std::string path;
  for (int step = 0; step < kMaxSteps; ++step) {
    if (inode == root_inode) return path;
    auto const found = find_first(source, tree, {inode, kParent, 0}, {inode, kParent + 1, 0});
    if (!found) break;
    auto const parent = parse_parent(found->record.key, found->record.value);
    if (!parent) break;
    path.insert(0, parent->name);
    path.insert(0, 1, '/');
    inode = parent->directory;
  }
  return path.empty() ? path : "?" + path;
}

std::vector<std::string> paths_of(NodeSource& source, NodePtr const& tree, std::uint64_t root_inode,
                                  std::uint64_t inode, std::size_t most) {
  std::vector<std::string> paths;
  Key at{inode, kParent, 0};
  while (paths.size() < most) {
    auto const found = find_first(source, tree, at, {inode, kParent + 1, 0});
    if (!found) break;
    at = found->record.key;
    ++at.offset;
    auto const parent = parse_parent(found->record.key, found->record.value);
    if (!parent) continue;
    auto const up = path_of(source, tree, root_inode, parent->directory);
    paths.push_back((up == "/" ? "" : up) + "/" + std::string(parent->name));
  }
  return paths;
}

}  // namespace lcfs::fsck
