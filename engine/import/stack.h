// SPDX-License-Identifier: Apache-2.0
// Stacking: a delta becomes a layer based on its parent.  Metadata only: the data is placed
// already.
//
// The steps, in order: links into lower layers are resolved; whiteouts and opaque marks remove
// records from the parent's tree; the delta's tree is merged with what is left, directory by
// directory; all new inodes are appended to the tree in the order in which the archive named them.
// Their numbers are greater than any in the tree, so that is one ascending stream of records.
//
// Threads: one.  Nobody else knows the layer, so no lock is held.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "engine/import/delta_impl.h"
#include "engine/import/ingest.h"
#include "engine/layer/layer_tree.h"
#include "engine/store/store_impl.h"

namespace lcfs {

// Reads ahead for a caller that looks inodes up in roughly ascending order: more and more leaves as
// long as that holds, else one.
class LeavesAhead {
 public:
  explicit LeavesAhead(Tree const& tree) : tree_(tree) {}
  // Call it before looking `inode` up.  True: it was behind all that was read ahead; its leaves
  // have been read now.
  bool touch(Inode inode);

 private:
  Tree const& tree_;
  Inode begin_ = 0, end_ = 0;  // what is at hand
  std::size_t leaves_ = 1;
};

class Stacker {
 public:
  // `base`: the delta's file i gets inode number base + i.  The tree is a new layer's, which nobody
  // else knows.
  Stacker(StoreImpl& store, LayerTree& tree, IngestImpl& ingest, Inode base)
      : store_(store),
        tree_(tree),
        delta_(ingest.delta().impl()),
        log_(ingest.log()),
        base_(base) {}

  Status run(bool has_parent);

  // Extents of the ingest that the layer uses; normalized.
  std::vector<Extent> take_kept();

 private:
  struct LowerFile {
    Inode inode = 0;
    std::uint32_t mode = 0;
  };
  using Node = Delta::Impl::Node;
  using File = Delta::Impl::File;

  Status link_lower_files();
  Status apply_whiteouts();
  Status merge(bool has_parent);
  Status merge_directory(std::uint32_t node, Inode directory,
                         std::vector<std::pair<std::uint32_t, Inode>>& todo);
  Status append_new();
  Status append_file(std::uint32_t index);
  Status append_children(std::uint32_t node);
  Status append_content(File const& f, Inode inode);
  [[nodiscard]] InodeInfo describe(File const& f) const;
  // Nodes are written early if many are changed: memory stays bounded (I7).
  Status spill_if_large();
  // `node` and all below it are new.
  void adopt(std::uint32_t node);
  void adopt_file(std::uint32_t node);
  // Removes the lower entry, with all below it.
  Status remove_lower(Inode directory, std::string_view name, Inode inode, std::uint32_t mode);
  Status remove_tree(Inode directory);  // all below it, and itself
  Status add_back_reference(std::uint32_t node, Inode directory);
  // A file of the lower layers has lost a name.  settle_lost() removes it later, many at once and
  // in inode order.
  Status lose_name(Inode directory, std::string_view name, Inode inode);
  Status settle_lost();
  Result<std::optional<LowerFile>> find_lower(Inode directory, std::string_view name);
  // The lower directory or file at a normalized path; symlinks are not followed.
  Result<std::optional<LowerFile>> resolve(std::string_view path, Inode* directory,
                                           std::string_view* name);
  [[nodiscard]] Inode inode_of(std::uint32_t node) const;
  [[nodiscard]] std::uint32_t mode_of(std::uint32_t node) const;
  [[nodiscard]] bool is_directory(Node const& n) const {
    return n.kind == Delta::Impl::kImplied || n.kind == Delta::Impl::kDirectory;
  }
  [[nodiscard]] Error at_entry(Error e, std::uint32_t node) const;

  StoreImpl& store_;
  LayerTree& tree_;
  Delta::Impl& delta_;
  ContentLog& log_;
  Inode const base_;
  std::vector<LowerFile> lower_files_;                // by index into Delta::lower_links
  std::unordered_map<std::uint32_t, Inode> implied_;  // implied nodes that are lower directories
  std::vector<Extent> kept_;
  struct Lost {
    Inode inode;
    Inode directory;
    std::string name;
  };
  std::vector<Lost> lost_;
};

}  // namespace lcfs
