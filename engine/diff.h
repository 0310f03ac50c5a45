// SPDX-License-Identifier: Apache-2.0
// What differs between two layers of a store, by path.
//
// Cost follows what differs, not the size of the layers.  Layers that began as clones of one tree
// (related(): the same root inode) share inode numbers and tree nodes.  Their trees are walked side
// by side, level by level, and nodes with equal pointers are skipped: equal pointer, equal subtree.
// What remains are the records that differ, and back references make paths of them.  Layers of
// different origin share nothing: they are walked by path, and what is at the same path is
// compared.
//
// Which file is which: what is at one path in both layers and is equal, with all that is below it,
// is the same, whatever its inodes are; so equal trees never differ.  Otherwise an inode number
// that both layers have is the same file.  Otherwise what has the same name in the same directory
// is compared as one path.  So a file that moved is kRenamed (a directory alone, not what is in
// it).  A file that was written again under its old name is kModified, or not reported if no
// attribute or content differs.
//
// What counts: type, content, mode, owner, mtime, extended attributes, device number, link target,
// and hard links.  What does not: access time, ctime and btime (users cannot set the last two),
// inode numbers, and where or how sparsely data is stored.  Two contents are equal only if their
// bytes are, or their blocks are the same ones.  Checksums show cheaply that blocks differ.
//
// A writable layer counts as it is when the diff is opened, unwritten data included: a checkpoint
// places that.  Nobody waits for the diff, and no layer is frozen; a pin keeps what is read from
// being overwritten.
//
// Memory follows the number of differences (about 200 bytes and a path each), and what is below
// directories that swapped places; for layers of different origin, also the number of files with
// several names.
//
// Threads: one for each diff; others may use the store.
// Errors: a node or block that cannot be read is kCorrupt or kIo, with the layer's name and what it
// was.  There is no result then.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/snapshot.h"
#include "engine/store.h"

namespace lcfs {

enum class DiffKind : std::uint8_t { kDeleted, kAdded, kRenamed, kModified };

// What changed of a file that both layers have: a set of these.
enum DiffChange : std::uint32_t {
  kDiffType = 1u << 0,
  kDiffContent = 1u << 1,  // of a regular file
  kDiffMode = 1u << 2,     // 07777
  kDiffOwner = 1u << 3,
  kDiffTimes = 1u << 4,  // mtime
  kDiffXattrs = 1u << 5,
  kDiffRdev = 1u << 6,
  kDiffTarget = 1u << 7,  // of a symlink
  kDiffLinks = 1u << 8,   // not a directory: which names it has (the same inode: how many)
};

struct ByteRange {
  std::uint64_t offset = 0, length = 0;
  friend bool operator==(ByteRange const&, ByteRange const&) = default;
};

struct DiffEntry {
  DiffKind kind = DiffKind::kModified;
  std::string path{};     // "/etc/passwd"; of the second layer, kDeleted: of the first
  std::string from{};     // kRenamed: its path in the first layer
  std::string link_to{};  // kAdded: another name of the same file in the second layer; kept from
                          // the first layer, or listed before
  std::uint32_t changes = 0;  // kModified: never 0
  // kDiffContent: in order, apart from each other, whole blocks but at the end of the longer file.
  std::vector<ByteRange> content{};
  // kDiffXattrs: the names of those added, removed and changed, sorted.
  std::vector<std::string> xattrs{};
  Inode a = 0, b = 0;      // in the first and second layer; 0: not there
  std::uint32_t mode = 0;  // of b, else of a
  std::uint64_t size = 0;  // of b, else of a; regular files and symlinks, else 0
};

struct DiffOptions {
  bool exclude_times = false;
  std::vector<std::string> below{};  // only entries at or below one of these ("/etc"); empty: all
};

// What a diff has visited so far.
struct DiffCost {
  std::uint64_t nodes = 0;    // of trees, by walking them
  std::uint64_t records = 0;  // that differ
};

class LayerDiff {
 public:
  // Takes a snapshot of both.  Must be destroyed before the store.  a == 0 stands for an empty
  // layer: everything is added, the root too.
  static Result<std::unique_ptr<LayerDiff>> open(Store& store, LayerId a, LayerId b);

  [[nodiscard]] bool related() const { return a_.info().root_inode == b_.info().root_inode; }
  [[nodiscard]] LayerSnapshot& a() { return a_; }
  [[nodiscard]] LayerSnapshot& b() { return b_; }

  // All differences, in the order of the bytes of `path`; a deletion before what replaced it.
  Result<std::vector<DiffEntry>> run(DiffOptions const& options);

  // Tree nodes visited so far by walking trees (not by looking single records up).
  [[nodiscard]] std::uint64_t nodes_walked() const { return cost_.nodes; }
  [[nodiscard]] std::uint64_t records_changed() const { return cost_.records; }

 private:
  LayerDiff(StoreImpl& store, CheckpointPin pin, LayerInfo const& a, LayerInfo const& b)
      : store_(store), pin_(std::move(pin)), a_(store, a), b_(store, b) {}
  StoreImpl& store_;
  CheckpointPin pin_;
  LayerSnapshot a_, b_;
  DiffCost cost_{};
};

// An OCI changeset: applied to the first layer, it gives the second.  Sorted by path, a directory
// before what is in it.
struct ChangesetItem {
  std::string path{};  // of a whiteout: what goes
  bool whiteout = false;
  Inode inode = 0;        // of the second layer
  std::string link_to{};  // an item before this one that is the same file
};
// It includes the directories above each item, so that their times come out right, and each file
// with all its names.  kInvalid: a name begins with ".wh.", which a tar cannot express.  any_names:
// it is not for a tar.
Result<std::vector<ChangesetItem>> changeset_of(LayerDiff& diff,
                                                std::vector<DiffEntry> const& entries,
                                                bool any_names = false);

}  // namespace lcfs
