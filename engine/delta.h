// SPDX-License-Identifier: Apache-2.0
// A delta: the contents of one layer blob, as an in-memory tree of its own paths that is not yet
// stacked on a parent.  The importer adds entries in archive order; later the engine merges the
// delta with a parent (stack.h).  Specification of the changeset rules: OCI image-spec layer.md;
// ours in doc/design/import.md, "Stacking".
//
// Rules kept here, inside one layer:
// - Paths are byte strings.  Leading "/" and "./", repeated "/" and "." components are ignored; ""
//   and "." are the root.  "..", NUL, components over 255 bytes, and paths over 64 KiB are refused
//   (kInvalid).
// - The last entry of a path wins.  A directory over a directory keeps its entries and takes the
//   new attributes.  Anything else replaces all that was there, and hides what lower layers have
//   below it.
// - Missing parents are implied: a lower layer's directory is used as it is, else one is made
//   (0755, root, time 0).
// - A path component that an earlier entry of the same layer made a symlink is followed inside the
//   root (at most 40 times, ".." stops at the root), as tools that unpack the layer do.  A symlink
//   in a lower layer is never followed: a directory replaces it.
// - A hard link to a path of this layer shares its inode.  One to any other path is kept as a link
//   to the lower layers, and resolved when the delta is stacked.
// - Whiteouts and opaque marks are kept apart from entries: they act on the layers below only,
//   wherever they stood in the archive.
//
// Memory: about 150 bytes per entry plus names, targets and xattrs.
// Threads: not thread safe; one thread adds all entries.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/types.h"

namespace lcfs {

using Xattrs = std::vector<std::pair<std::string, std::string>>;  // whole names ("user.x"), unique

// Attributes of an entry that is being added.
struct EntryMeta {
  std::uint32_t permissions = 0;  // 07777
  std::uint32_t uid = 0, gid = 0;
  Timestamp mtime{};
  std::uint64_t rdev = 0;  // device nodes: major << 32 | minor
  Xattrs xattrs{};
};

// File data already placed in the store (Ingest::end_content).
struct Content {
  std::uint64_t size = 0;    // bytes of the file
  std::uint64_t handle = 0;  // private to Ingest; 0: no data at all (empty, or one hole)
  std::uint64_t blocks = 0;  // data blocks it took
};

class Delta {
 public:
  Delta();
  ~Delta();
  Delta(Delta&&) noexcept;
  Delta& operator=(Delta&&) noexcept;

  Status add_directory(std::string_view path, EntryMeta const& meta);
  Status add_file(std::string_view path, EntryMeta const& meta, Content content);
  Status add_symlink(std::string_view path, EntryMeta const& meta,
                     std::string_view target);  // 1..kMaxSymlink bytes
  // type: S_IFCHR, S_IFBLK, S_IFIFO or S_IFSOCK.
  Status add_special(std::string_view path, EntryMeta const& meta, std::uint32_t type);
  Status add_hardlink(std::string_view path, std::string_view target);
  Status add_whiteout(std::string_view path);  // of the path that is hidden (without ".wh.")
  Status add_opaque(std::string_view directory);

  [[nodiscard]] std::uint64_t entries() const;  // nodes in the tree, implied directories included

  // Fails if `path` would be refused.  For importers, before they place the data.
  static Status check_path(std::string_view path);

  struct Impl;  // engine/import/delta_impl.h: for stack.cc only
  [[nodiscard]] Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace lcfs
