// SPDX-License-Identifier: Apache-2.0
// Node ids: how the kernel names a file, by layer and inode.  They are computed, so that they and
// the file handles made of them mean the same to every later server of the store.
//
//   bits 63..40  slot: the layer's serve_id modulo 2^24; 0: files of the server itself
//   bits 39..0   the inode
// The generation of a node id is the rest of the serve_id, so the pair is never reused.
#pragma once

#include <cstdint>

#include "engine/types.h"

namespace lcfs::mount {

using NodeId = std::uint64_t;

inline constexpr NodeId kRootNode = 1;  // FUSE_ROOT_ID
inline constexpr unsigned kInodeBits = 40;
inline constexpr Inode kMaxInode = (Inode{1} << kInodeBits) - 1;
inline constexpr std::uint32_t kMaxSlot = (1u << 24) - 1;

// The slot of a layer; 0 (one serve id in 2^24) means that the layer cannot be mounted.
[[nodiscard]] constexpr std::uint32_t slot_of(std::uint64_t serve_id) {
  return static_cast<std::uint32_t>(serve_id) & kMaxSlot;
}
[[nodiscard]] constexpr std::uint64_t generation_of(std::uint64_t serve_id) {
  return serve_id >> 24;
}

[[nodiscard]] constexpr NodeId make_node(std::uint32_t slot, Inode inode) {
  return NodeId{slot} << kInodeBits | inode;
}
[[nodiscard]] constexpr std::uint32_t slot_in(NodeId node) {
  return static_cast<std::uint32_t>(node >> kInodeBits);
}
[[nodiscard]] constexpr Inode inode_in(NodeId node) { return node & kMaxInode; }

}  // namespace lcfs::mount
