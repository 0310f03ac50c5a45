// SPDX-License-Identifier: Apache-2.0
// A delta: what one layer blob says, as an in-memory tree of its own paths, not yet stacked on a
// parent. The importer feeds it entry by entry in archive order; the engine later merges it with a
// parent (stack.h). Specification of the changeset rules: OCI image-spec layer.md; ours in
// doc/design.md, "Stacking".
//
// Rules kept here, inside one layer:
// - Paths are byte strings.  Leading "/" and "./", repeated "/" and "." components mean nothing; ""
// and "." are the root.
//   ".." , NUL, components over 255 bytes, and paths over 64 KiB are refused (kInvalid).
// - Last wins: a later entry of a path replaces an earlier one.  A directory over a directory keeps
// its entries and takes the new
//   attributes; anything else replaces all that stood there, and hides what lower layers have below
//   it.
// - Missing parents are implied: a lower layer's directory is used as it is, else one is made
// (0755, root, time 0).
// - A path component that an earlier entry of the same layer made a symlink is followed inside the
// root (at most 40 times,
//   ".." stops at the root), as tools that unpack the layer do.  One that stands in a lower layer
//   never is: a directory takes its place.
// - A hard link to a path of this layer shares its inode; to any other path it is kept as a link to
// the lower layers, resolved
//   when stacked.
// - Whiteouts and opaque marks are kept apart from entries: they act on the layers below only,
// wherever they stood.
//
// Memory: about 150 bytes per entry plus names, targets and xattrs.  Not thread safe; one thread
// feeds it.
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
  std::uint64_t handle = 0;  // Ingest's own; 0: no data at all (empty, or one hole)
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

  // Would `path` be refused?  For importers that want to know before they place the data.
  static Status check_path(std::string_view path);

  struct Impl;  // engine/delta_impl.h: for stack.cc only
  [[nodiscard]] Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace lcfs
