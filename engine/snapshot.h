// SPDX-License-Identifier: Apache-2.0
// A layer as one checkpoint has it.  It is read without the lock of its LayerImpl, which may change
// meanwhile.  The caller makes sure that nothing of it is overwritten (CheckpointPin).
// Threads: one.
// Errors name the layer and what of it cannot be read.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "device/device.h"
#include "engine/types.h"

namespace lcfs {

class Store;
struct StoreImpl;

class LayerSnapshot {
 public:
  LayerSnapshot(Store& store, LayerInfo info);
  LayerSnapshot(StoreImpl& store, LayerInfo info);  // within the engine
  ~LayerSnapshot();
  LayerSnapshot(LayerSnapshot const&) = delete;
  LayerSnapshot& operator=(LayerSnapshot const&) = delete;

  [[nodiscard]] LayerInfo const& info() const { return info_; }
  // The same error, with the layer's name and `what` could not be read.
  [[nodiscard]] Error trouble(Error error, std::string const& what) const;

  // A file without names (nlink 0) counts as not there.
  Result<std::optional<InodeInfo>> find_inode(Inode inode);
  Result<InodeInfo> inode(Inode inode);  // kCorrupt if it is not there

  struct Name {
    std::string name{};
    Inode inode = 0;
  };
  Result<std::vector<Name>> entries(Inode directory);           // sorted by name
  Result<Inode> entry(Inode directory, std::string_view name);  // 0: none
  Result<Inode> find(std::string_view path);  // from the root, no link followed; 0: none
  // Where `path` leads: links among its directories are followed inside the root, its last
  // component is not.  Components that do not exist stay as they are.
  Result<std::string> real_path(std::string_view path);

  struct Link {
    Inode directory = 0;
    std::string name{};
    friend auto operator<=>(Link const&, Link const&) = default;
  };
  Result<std::vector<Link>> links(Inode inode);         // sorted
  Result<std::string> path(Inode directory);            // "/", "/etc"
  Result<std::vector<std::string>> paths(Inode inode);  // sorted
  static std::string join(std::string_view directory, std::string_view name);

  Result<std::map<std::string, std::string>> xattrs(Inode inode);
  Result<std::string> target(Inode symlink);

  // Where a block of a file is.
  struct BlockRef {
    enum Kind : std::uint8_t { kHole, kData, kSmall };  // kSmall: in the leaf
    Kind kind = kHole;
    std::uint32_t sum = 0;    // kData
    std::uint64_t block = 0;  // kData
    LayerId owner = 0;        // kData
  };
  // Blocks [first, first + into.size()) of the file.
  Status map(Inode inode, std::uint64_t first, std::vector<BlockRef>& into);
  // The first byte at or behind `offset` that may be outside a hole; ~0: none.
  Result<std::uint64_t> next_data(Inode inode, std::uint64_t offset);
  // Reads into.size() bytes from `offset`, both multiples of kBlockSize; holes are zeroes, bytes
  // behind the file's size undefined.
  Status read(Inode inode, std::uint64_t offset, AlignedBuffer& into, std::size_t bytes);
  static constexpr std::size_t kMaxRead = 1u << 20;

 private:
  struct Reading;
  Result<std::string> inline_data(Inode inode);
  StoreImpl& store_;
  LayerInfo const info_;
  std::unique_ptr<Reading> reading_;
  std::unordered_map<Inode, std::string> paths_{};  // of directories
};

}  // namespace lcfs
