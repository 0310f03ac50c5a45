// SPDX-License-Identifier: Apache-2.0
// The inside of a Delta: compact arrays, for delta.cc and stack.cc only.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/delta.h"

namespace lcfs {

inline constexpr std::uint32_t kNone = ~std::uint32_t{0};

// A vector that never moves its elements and never holds twice what it needs while it grows.
template <class T>
class ChunkedVector {
 public:
  T& operator[](std::size_t i) { return chunks_[i / kChunk][i % kChunk]; }
  T const& operator[](std::size_t i) const { return chunks_[i / kChunk][i % kChunk]; }
  [[nodiscard]] std::size_t size() const { return size_; }
  std::uint32_t add(T const& value) {
    if (size_ % kChunk == 0) chunks_.push_back(std::make_unique<T[]>(kChunk));
    (*this)[size_] = value;
    return static_cast<std::uint32_t>(size_++);
  }

 private:
  static constexpr std::size_t kChunk = 1024;
  std::vector<std::unique_ptr<T[]>> chunks_;
  std::size_t size_ = 0;
};

// Strings that live as long as the arena.
class StringArena {
 public:
  std::uint64_t add(std::string_view s);  // s.size() <= kChunk
  [[nodiscard]] std::string_view get(std::uint64_t at, std::size_t size) const {
    return {chunks_[at / kChunk].get() + at % kChunk, size};
  }
  static constexpr std::size_t kChunk = 1u << 16;

 private:
  std::vector<std::unique_ptr<char[]>> chunks_;
  std::size_t used_ = kChunk;
};

struct Delta::Impl {
  enum NodeKind : std::uint8_t { kImplied, kDirectory, kOther, kLowerLink };

  // A path of the layer.
  struct Node {
    std::uint64_t name = 0;  // in names
    std::uint32_t parent = 0;
    std::uint32_t first_child = kNone;  // directories; newest first, dead ones included
    std::uint32_t next_sibling = kNone;
    std::uint32_t inode = kNone;      // kLowerLink: index into lower_links; kImplied: none
    std::uint32_t next_link = kNone;  // next node of the same inode
    std::uint8_t name_size = 0;
    NodeKind kind = kImplied;
    bool hides = false;  // directories: nothing of the lower layers shows through
    bool dead = false;   // replaced by a later entry
  };

  struct File {
    std::int64_t mtime_sec = 0;
    std::uint64_t size = 0;  // files: bytes; devices: rdev; symlinks: length of the target
    std::uint64_t data = 0;  // files: Content::handle; symlinks: target in names
    Inode number = 0;        // given when stacked
    enum State : std::uint8_t { kUnused, kNew, kMerged };  // when stacked
    std::uint32_t mtime_nsec : 30 = 0;
    std::uint32_t state : 2 = kUnused;
    std::uint32_t blocks = 0;  // data blocks; files beyond 16 TiB of data are refused
    std::uint32_t mode = 0, uid = 0, gid = 0;
    std::uint32_t xattrs = kNone;  // index
    std::uint32_t first_node = kNone;
  };

  ChunkedVector<Node> nodes;  // 0 is the root
  ChunkedVector<File> files;
  ChunkedVector<Xattrs> xattrs;
  StringArena names;
  std::vector<std::string> lower_links;  // normalized paths
  std::vector<std::string> whiteouts;    // normalized paths
  std::vector<std::string> opaques;      // "" is the root
  std::uint32_t implied = 0;             // nodes that may still need an inode

  Impl();
  [[nodiscard]] std::string_view name(Node const& n) const {
    return names.get(n.name, n.name_size);
  }
  [[nodiscard]] std::string_view target(File const& f) const { return names.get(f.data, f.size); }
  [[nodiscard]] std::uint32_t find(std::uint32_t parent, std::string_view name) const;
  std::uint32_t make(std::uint32_t parent, std::string_view name, NodeKind kind);
  // Takes the node and all below it out; a fresh one of `kind` takes its place and hides what lower
  // layers have there.
  std::uint32_t replace(std::uint32_t node, NodeKind kind);
  std::string path_of(std::uint32_t node) const;

  struct Place {
    std::uint32_t parent = 0;
    std::string_view name{};  // empty: the root itself
    std::uint32_t node = kNone;
  };
  // Where an entry of this path belongs; makes implied parents.  Neighbours in an archive mostly
  // share their parent: it is remembered until something is replaced.
  Result<Place> place(std::string_view path);
  Result<std::uint32_t> settle(Place const& place, NodeKind kind);
  std::uint32_t add_file(EntryMeta const& meta, std::uint32_t mode);
  void set_meta(File& f, EntryMeta const& meta, std::uint32_t type);
  void attach(std::uint32_t node, std::uint32_t file);

 private:
  std::vector<std::uint32_t> table_;  // open addressing over (parent, name); size a power of two
  std::size_t used_slots_ = 0;
  std::string last_parent_;  // as written in the archive
  std::uint32_t last_parent_node_ = kNone;
  [[nodiscard]] std::size_t slot_of(std::uint32_t parent, std::string_view name) const;
  void grow();
};

// Splits into components; refuses what no path of a layer may be.
Result<std::vector<std::string_view>> split_path(std::string_view path);

}  // namespace lcfs
