// SPDX-License-Identifier: Apache-2.0
#include "engine/squash.h"

#include <sys/stat.h>

#include <algorithm>

#include "engine/diff.h"
#include "engine/import.h"

namespace lcfs {
namespace {

// Adds the items of a changeset as an import adds those of a tar.
class Copier {
 public:
  Copier(LayerSnapshot& from, Ingest& into, std::atomic<bool> const& stop)
      : from_(from), into_(into), stop_(stop) {}

  Status copy(ChangesetItem const& item) {
    if (stop_.load(std::memory_order_relaxed)) return Error::interrupted();
    Delta& delta = into_.delta();
    if (item.whiteout) return delta.add_whiteout(item.path);
    if (!item.link_to.empty()) return delta.add_hardlink(item.path, item.link_to);
    LCFS_TRY_ASSIGN(auto const info, from_.inode(item.inode));
    LCFS_TRY_ASSIGN(auto const meta, meta_of(item.inode, info));
    std::uint32_t const type = info.mode & S_IFMT;
    switch (type) {
      case S_IFDIR: return delta.add_directory(item.path, meta);
      case S_IFLNK: {
        LCFS_TRY_ASSIGN(auto const target, from_.target(item.inode));
        return delta.add_symlink(item.path, meta, target);
      }
      case S_IFREG: {
        LCFS_TRY_ASSIGN(auto const content, data(item.inode, info.size));
        return delta.add_file(item.path, meta, content);
      }
      default: return delta.add_special(item.path, meta, type);
    }
  }

 private:
  Result<EntryMeta> meta_of(Inode inode, InodeInfo const& info) {
    EntryMeta meta;
    meta.permissions = info.mode & 07777;
    meta.uid = info.uid;
    meta.gid = info.gid;
    meta.mtime = info.mtime;
    meta.rdev = info.rdev;
    LCFS_TRY_ASSIGN(auto const xattrs, from_.xattrs(inode));
    meta.xattrs.assign(xattrs.begin(), xattrs.end());
    return meta;
  }

  Result<Content> data(Inode inode, std::uint64_t size) {
    if (buffer_.size() == 0) buffer_ = AlignedBuffer(LayerSnapshot::kMaxRead);
    into_.begin_content(size);
    for (std::uint64_t at = 0; at < size;) {
      if (stop_.load(std::memory_order_relaxed)) return Error::interrupted();
      LCFS_TRY_ASSIGN(std::uint64_t const next, from_.next_data(inode, at));
      if (std::uint64_t const data = std::min(size, next / kBlockSize * kBlockSize); data > at) {
        LCFS_TRY(into_.append_hole(data - at));
        at = data;
        continue;
      }
      std::uint64_t const n = std::min<std::uint64_t>(size - at, LayerSnapshot::kMaxRead);
      LCFS_TRY(from_.read(inode, at, buffer_, (n + kBlockSize - 1) / kBlockSize * kBlockSize));
      LCFS_TRY(into_.append(buffer_.span().first(n)));
      at += n;
    }
    return into_.end_content();
  }

  LayerSnapshot& from_;
  Ingest& into_;
  std::atomic<bool> const& stop_;
  AlignedBuffer buffer_{};
};

}  // namespace

Result<LayerId> squash_layer(Store& store, LayerId parent, LayerId what, std::string_view name,
                             std::atomic<bool> const& stop) {
  LCFS_TRY(Store::check_layer_name(name));
  if (parent != 0) LCFS_TRY(store.freeze_layer(parent));
  LCFS_TRY_ASSIGN(auto const diff, LayerDiff::open(store, parent, what));
  LCFS_TRY_ASSIGN(auto const entries, diff->run({}));
  LCFS_TRY_ASSIGN(auto const items, changeset_of(*diff, entries, true));
  ImportTransaction transaction(store, "layer squash");
  LCFS_TRY_ASSIGN(auto const ingest, transaction.begin_layer());
  Copier copier(diff->b(), *ingest, stop);
  for (auto const& item : items) LCFS_TRY(copier.copy(item));
  LCFS_TRY(ingest->finish());
  LayerMeta meta;
  meta.name = name;
  LCFS_TRY_ASSIGN(LayerId const id, transaction.stack(*ingest, parent, meta));
  LCFS_TRY(transaction.commit());
  return id;
}

}  // namespace lcfs
