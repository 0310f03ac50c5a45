// SPDX-License-Identifier: Apache-2.0
// Differences of related layers: from records to inodes that both have.  diff_paths.cc compares by
// path.
#include "engine/diff.h"

#include <sys/stat.h>

#include <algorithm>

#include "engine/diff/diff_impl.h"
#include "engine/store/store_impl.h"

namespace lcfs {

Result<std::unique_ptr<LayerDiff>> LayerDiff::open(Store& store, LayerId a, LayerId b) {
  auto& impl = inside(store);
  bool const writable = !impl.options.read_only;
  // The first checkpoint places everything written until now.  What the records name from the pin
  // on stays whole.  A checkpoint or commit under way may have changed the records, so the second
  // checkpoint makes sure that what they name is on the device.
  if (writable) LCFS_TRY(store.checkpoint());
  auto pin = store.pin();
  LayerInfo info_a, info_b;
  {
    ReadLock lock(impl.catalog.mutex());
    if (a != 0) {
      LCFS_TRY_ASSIGN(info_a, impl.catalog.layers.live(a));
    }
    LCFS_TRY_ASSIGN(info_b, impl.catalog.layers.live(b));
  }
  if (writable) LCFS_TRY(store.checkpoint());
  return std::unique_ptr<LayerDiff>(new LayerDiff(impl, std::move(pin), info_a, info_b));
}

Result<std::vector<DiffEntry>> LayerDiff::run(DiffOptions const& options) {
  return Differ(*this, store_.cache, store_.space.total(), options, cost_).run();
}

Result<std::vector<DiffEntry>> Differ::run() {
  if (related_) {
    LCFS_TRY(collect());
    LCFS_TRY(settle());
  }
  LCFS_TRY(walk());
  LCFS_TRY(check_links());
  LCFS_TRY(shared_inodes());
  std::sort(out_.begin(), out_.end(), [](DiffEntry const& x, DiffEntry const& y) {
    if (x.path != y.path) return x.path < y.path;
    return x.kind < y.kind;
  });
  return std::move(out_);
}

// Records -----------------------------------------------------------------------------------------

Status Differ::collect() {
  return diff_records(cache_, total_blocks_, a_, b_, cost_.nodes,
                      [this](RecordChange const& change) { return take(change); });
}

Status Differ::take(RecordChange const& change) {
  Key const& key = change.key;
  if (key.kind == kOrphan) return {};
  ++cost_.records;
  if (touched_.empty() || touched_.back().inode != key.inode) {
    touched_.push_back({});
    touched_.back().inode = key.inode;
  }
  auto& t = touched_.back();
  switch (key.kind) {
    case kInode: {
      // A file without names counts as missing.
      auto const read = [&](std::optional<Bytes> const& value, bool& record,
                            bool& alive) -> Status {
        if (!value) return {};
        LCFS_TRY_ASSIGN(auto const info, parse_inode(key, *value));
        record = true;
        alive = info.nlink != 0;
        return {};
      };
      LCFS_TRY(read(change.a, t.record_a, t.alive_a));
      return read(change.b, t.record_b, t.alive_b);
    }
    case kParent: t.links = true; return {};
    case kDirent: t.dirents = true; return take_dirent(change);
    case kXattr: t.xattrs = true; return {};
    case kInline:
      t.data = true;
      ranges_[key.inode].push_back({0, kBlockSize});
      return {};
    case kExtent: t.data = true; return take_extent(change, t);
    default: return {};
  }
}

Status Differ::take_dirent(RecordChange const& change) {
  auto const read = [&](std::optional<Bytes> const& value,
                        std::unordered_map<Inode, std::vector<Name>>& into) -> Status {
    if (!value) return {};
    LCFS_TRY_ASSIGN(auto const d, parse_dirent(change.key, *value));
    into[change.key.inode].push_back({std::string(d.name), d.inode});
    return {};
  };
  LCFS_TRY(read(change.a, gone_));
  return read(change.b, come_);
}

Status Differ::take_extent(RecordChange const& change, Touched const& t) {
  if (t.record_a != t.record_b) return {};  // only one layer has the file: nothing will be compared
  for (auto const* value : {&change.a, &change.b}) {
    if (!*value) continue;
    LCFS_TRY_ASSIGN(auto const extent, parse_extent(change.key, **value, total_blocks_));
    ranges_[change.key.inode].push_back(
        {change.key.offset, std::uint64_t{extent.count} * kBlockSize});
  }
  return {};
}

Differ::Touched const* Differ::touched(Inode inode) const {
  auto const it =
      std::lower_bound(touched_.begin(), touched_.end(), inode,
                       [](Touched const& t, Inode wanted_inode) { return t.inode < wanted_inode; });
  return it != touched_.end() && it->inode == inode ? &*it : nullptr;
}

// An inode that the second layer has: does the first have it too?  If its record is not among those
// that differ, yes.
bool Differ::has_a(Inode inode) const {
  if (!related_) return false;
  auto const* t = touched(inode);
  return t == nullptr || (t->record_a ? t->alive_a : !t->record_b);
}

bool Differ::has_b(Inode inode) const {
  if (!related_) return false;
  auto const* t = touched(inode);
  return t == nullptr || (t->record_b ? t->alive_b : !t->record_a);
}

// Inodes that both layers have --------------------------------------------------------------------

Status Differ::shared_inodes() {
  for (auto const& t : touched_) {
    if (has_a(t.inode) && has_b(t.inode) && !settled_.contains(t.inode)) LCFS_TRY(shared_inode(t));
  }
  return {};
}

Status Differ::shared_inode(Touched const& t) {
  LCFS_TRY_ASSIGN(auto const found_a, a_.find_inode(t.inode));
  LCFS_TRY_ASSIGN(auto const found_b, b_.find_inode(t.inode));
  if (!found_a || !found_b) return {};
  InodeInfo const &a = *found_a, &b = *found_b;
  Moves moves;
  if (auto const it = moves_.find(t.inode); it != moves_.end()) moves = std::move(it->second);
  // Names that it kept.
  std::vector<std::string> kept;
  LCFS_TRY_ASSIGN(auto const links, b_.links(t.inode));
  for (auto const& link : links) {
    if (std::any_of(moves.added.begin(), moves.added.end(),
                    [&](Location const& l) { return l.link == link; }))
      continue;
    LCFS_TRY_ASSIGN(auto const directory, b_.path(link.directory));
    kept.push_back(LayerSnapshot::join(directory, link.name));
  }
  if (t.inode == b_.info().root_inode) kept.emplace_back("/");
  auto const any = [this](auto const& list, auto const& path_of) {
    return std::any_of(list.begin(), list.end(), [&](auto const& x) { return wanted(path_of(x)); });
  };
  auto const path_of = [](Location const& l) -> std::string const& { return l.path; };
  if (!any(kept, [](std::string const& p) -> std::string const& { return p; }) &&
      !any(moves.removed, path_of) && !any(moves.added, path_of))
    return {};

  DiffEntry entry;
  entry.a = entry.b = t.inode;
  compare_attributes(a, b, entry);
  if (t.xattrs) LCFS_TRY(compare_xattrs(t.inode, t.inode, entry));
  if (S_ISREG(b.mode) && (t.data || a.size != b.size)) {
    LCFS_TRY_ASSIGN(entry.content,
                    content_.compare(t.inode, a.size, t.inode, b.size, &ranges_[t.inode]));
    if (!entry.content.empty()) entry.changes |= kDiffContent;
  }
  if (S_ISLNK(b.mode) && t.data) entry.changes |= kDiffTarget;
  for (auto const& path : kept) {
    entry.path = path;
    emit(entry);
  }
  return moved(entry, moves, b);
}

// Pairs names that it lost with names that it got: each pair is a rename.
Status Differ::moved(DiffEntry const& changes, Moves& moves, InodeInfo const& info) {
  auto const by_path = [](Location const& x, Location const& y) { return x.path < y.path; };
  std::sort(moves.removed.begin(), moves.removed.end(), by_path);
  std::sort(moves.added.begin(), moves.added.end(), by_path);
  std::size_t const pairs = std::min(moves.removed.size(), moves.added.size());
  for (std::size_t i = 0; i < pairs; ++i) {
    DiffEntry entry = changes;
    entry.kind = DiffKind::kRenamed;
    entry.path = moves.added[i].path;
    entry.from = moves.removed[i].path;
    emit(std::move(entry));
  }
  DiffEntry plain;
  plain.mode = info.mode;
  plain.size = S_ISDIR(info.mode) ? 0 : info.size;
  for (std::size_t i = pairs; i < moves.removed.size(); ++i) {
    plain.kind = DiffKind::kDeleted;
    plain.path = moves.removed[i].path;
    plain.a = changes.a;
    emit(plain);
  }
  if (pairs == moves.added.size()) return {};
  plain.kind = DiffKind::kAdded;
  plain.a = 0;
  plain.b = changes.b;
  LCFS_TRY_ASSIGN(auto const paths, b_.paths(changes.b));
  auto const is_new = [&](std::string const& path) {
    return std::any_of(moves.added.begin() + static_cast<std::ptrdiff_t>(pairs), moves.added.end(),
                       [&](Location const& l) { return l.path == path; });
  };
  auto const other = std::find_if_not(paths.begin(), paths.end(), is_new);
  if (other != paths.end()) plain.link_to = *other;
  for (std::size_t i = pairs; i < moves.added.size(); ++i) {
    plain.path = moves.added[i].path;
    emit(plain);
  }
  return {};
}

}  // namespace lcfs
