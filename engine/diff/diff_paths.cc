// SPDX-License-Identifier: Apache-2.0
// Differences by path: compares directories side by side, and files that correspond only by their
// names.  In related layers it looks at entries that differ only, in others at all.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

#include "engine/diff/diff_impl.h"

namespace lcfs {

Status Differ::walk() {
  if (related_) {
    for (auto const& t : touched_) {
      if (!t.dirents || !has_a(t.inode) || !has_b(t.inode) || settled_.contains(t.inode)) continue;
      LCFS_TRY_ASSIGN(auto path_a, a_.path(t.inode));
      LCFS_TRY_ASSIGN(auto path_b, b_.path(t.inode));
      todo_.push_back({t.inode, t.inode, std::move(path_a), std::move(path_b)});
    }
  } else if (a_.info().root_inode == 0) {
    DiffEntry root;
    root.kind = DiffKind::kAdded;
    root.path = "/";
    root.b = b_.info().root_inode;
    root.mode = S_IFDIR;
    emit(std::move(root));
    todo_.push_back({0, b_.info().root_inode, {}, "/"});
  } else {
    Inode const ia = a_.info().root_inode, ib = b_.info().root_inode;
    LCFS_TRY_ASSIGN(auto const root_a, a_.inode(ia));
    LCFS_TRY_ASSIGN(auto const root_b, b_.inode(ib));
    DiffEntry entry;
    entry.a = ia;
    entry.b = ib;
    entry.path = "/";
    LCFS_TRY(compare_all(ia, root_a, ib, root_b, entry));
    emit(std::move(entry));
    pairs_.emplace(ia, ib);
    todo_.push_back({ia, ib, "/", "/"});
  }
  while (!todo_.empty()) {
    DirPair const pair = std::move(todo_.back());
    todo_.pop_back();
    LCFS_TRY(walk_pair(pair));
  }
  return {};
}

// A directory has one name.  One that is found again is damage, and would be an endless loop.
Status Differ::enter(std::unordered_set<Inode>& seen, LayerSnapshot const& layer, Inode directory) {
  if (directory == 0 || seen.insert(directory).second) return {};
  return layer.trouble(Error::corrupt("it has two names"), fmt::format("directory {}", directory));
}

Result<std::vector<Differ::Name>> Differ::entries_of(
    LayerSnapshot& layer, std::unordered_map<Inode, std::vector<Name>>& changed, Inode directory) {
  if (directory == 0) return std::vector<Name>{};
  if (!related_) return layer.entries(directory);
  auto const it = changed.find(directory);
  if (it == changed.end()) return std::vector<Name>{};
  auto names = std::move(it->second);
  changed.erase(it);
  std::sort(names.begin(), names.end(),
            [](Name const& x, Name const& y) { return x.name < y.name; });
  return names;
}

Status Differ::walk_pair(DirPair const& pair) {
  LCFS_TRY(enter(seen_a_, a_, pair.a));
  LCFS_TRY(enter(seen_b_, b_, pair.b));
  LCFS_TRY_ASSIGN(auto const in_a, entries_of(a_, gone_, pair.a));
  LCFS_TRY_ASSIGN(auto const in_b, entries_of(b_, come_, pair.b));
  for (std::size_t i = 0, k = 0; i < in_a.size() || k < in_b.size();) {
    if (k == in_b.size() || (i < in_a.size() && in_a[i].name < in_b[k].name)) {
      LCFS_TRY(removed(pair, in_a[i++]));
    } else if (i == in_a.size() || in_b[k].name < in_a[i].name) {
      LCFS_TRY(added(pair, in_b[k++]));
    } else {
      LCFS_TRY(same_path(pair, in_a[i++], in_b[k++].inode));
    }
  }
  return {};
}

void Differ::descend(DirPair pair) { todo_.push_back(std::move(pair)); }

Status Differ::removed(DirPair const& at, Name const& name) {
  auto path = LayerSnapshot::join(at.path_a, name.name);
  if (has_b(name.inode)) {  // moved, or it has other names
    moves_[name.inode].removed.push_back({{at.a, name.name}, std::move(path)});
    return {};
  }
  LCFS_TRY_ASSIGN(auto const info, a_.inode(name.inode));
  DiffEntry entry;
  entry.kind = DiffKind::kDeleted;
  entry.path = path;
  entry.a = name.inode;
  entry.mode = info.mode;
  entry.size = S_ISDIR(info.mode) ? 0 : info.size;
  emit(std::move(entry));
  if (S_ISDIR(info.mode)) descend({name.inode, 0, std::move(path), {}});
  return {};
}

Status Differ::added(DirPair const& at, Name const& name) {
  auto path = LayerSnapshot::join(at.path_b, name.name);
  if (has_a(name.inode)) {
    moves_[name.inode].added.push_back({{at.b, name.name}, std::move(path)});
    return {};
  }
  LCFS_TRY_ASSIGN(auto const info, b_.inode(name.inode));
  DiffEntry entry;
  entry.kind = DiffKind::kAdded;
  entry.path = path;
  entry.b = name.inode;
  entry.mode = info.mode;
  entry.size = S_ISDIR(info.mode) ? 0 : info.size;
  if (!S_ISDIR(info.mode) && info.nlink > 1) {
    auto const [first, fresh] = first_names_.try_emplace(name.inode);
    if (fresh) {
      LCFS_TRY_ASSIGN(auto const paths, b_.paths(name.inode));
      if (!paths.empty()) first->second = paths.front();
    }
    if (first->second != path) entry.link_to = first->second;
  }
  emit(std::move(entry));
  if (S_ISDIR(info.mode)) descend({0, name.inode, {}, std::move(path)});
  return {};
}

// The same name in directories that correspond.
Status Differ::same_path(DirPair const& at, Name const& name, Inode ib) {
  Inode const ia = name.inode;
  if (ia == ib) return {};
  if (has_b(ia) || has_a(ib)) {  // one of them came from, or went, elsewhere
    LCFS_TRY(removed(at, name));
    return added(at, {name.name, ib});
  }
  LCFS_TRY_ASSIGN(auto const a, a_.inode(ia));
  LCFS_TRY_ASSIGN(auto const b, b_.inode(ib));
  DiffEntry entry;
  entry.a = ia;
  entry.b = ib;
  entry.path = LayerSnapshot::join(at.path_b, name.name);
  auto path_a = LayerSnapshot::join(at.path_a, name.name);
  bool const dir_a = S_ISDIR(a.mode), dir_b = S_ISDIR(b.mode);
  if (dir_a && dir_b) {
    pairs_.emplace(ia, ib);
    descend({ia, ib, std::move(path_a), entry.path});
  } else if (dir_a) {
    descend({ia, 0, std::move(path_a), {}});
  } else if (dir_b) {
    descend({0, ib, {}, entry.path});
  }
  if (!wanted(entry.path)) return {};
  if (dir_a || dir_b || a.nlink == 1 || b.nlink == 1) {
    LCFS_TRY(compare_all(ia, a, ib, b, entry));
    emit(std::move(entry));
    return {};
  }
  auto const [done, fresh] = compared_.try_emplace({ia, ib});
  if (fresh) {
    done->second.a = ia;
    done->second.b = ib;
    LCFS_TRY(compare_all(ia, a, ib, b, done->second));
  }
  auto path = std::move(entry.path);
  entry = done->second;
  entry.path = std::move(path);
  if ((entry.changes & (kDiffLinks | kDiffType)) != 0) {
    emit(std::move(entry));
  } else {
    link_checks_.push_back(
        {ia, ib, std::move(entry)});  // which directories correspond is known at the end
  }
  return {};
}

Status Differ::check_links() {
  std::map<std::pair<Inode, Inode>, bool> same;
  for (auto& check : link_checks_) {
    auto const [known, fresh] = same.try_emplace({check.a, check.b}, true);
    if (fresh) {
      LCFS_TRY_ASSIGN(auto of_a, a_.links(check.a));
      LCFS_TRY_ASSIGN(auto const of_b, b_.links(check.b));
      for (auto& link : of_a) {
        auto const pair = pairs_.find(link.directory);
        if (pair != pairs_.end()) {
          link.directory = pair->second;
        } else if (!has_b(link.directory)) {
          link.directory = 0;
        }
      }
      std::sort(of_a.begin(), of_a.end());
      known->second = of_a == of_b;
    }
    if (!known->second) check.entry.changes |= kDiffLinks;
    emit(std::move(check.entry));
  }
  return {};
}

// One file ----------------------------------------------------------------------------------------

void Differ::compare_attributes(InodeInfo const& a, InodeInfo const& b, DiffEntry& entry) const {
  bool const dir = S_ISDIR(a.mode) && S_ISDIR(b.mode);
  if ((a.mode & S_IFMT) != (b.mode & S_IFMT)) entry.changes |= kDiffType;
  if ((a.mode & 07777) != (b.mode & 07777)) entry.changes |= kDiffMode;
  if (a.uid != b.uid || a.gid != b.gid) entry.changes |= kDiffOwner;
  if (a.mtime != b.mtime) entry.changes |= kDiffTimes;
  if (a.rdev != b.rdev && (entry.changes & kDiffType) == 0) entry.changes |= kDiffRdev;
  if (!dir && (entry.changes & kDiffType) == 0 && a.nlink != b.nlink) entry.changes |= kDiffLinks;
  entry.mode = b.mode;
  entry.size = S_ISDIR(b.mode) ? 0 : b.size;
}

Status Differ::compare_xattrs(Inode a, Inode b, DiffEntry& entry) {
  LCFS_TRY_ASSIGN(auto const of_a, a_.xattrs(a));
  LCFS_TRY_ASSIGN(auto const of_b, b_.xattrs(b));
  if (of_a == of_b) return {};
  for (auto const& [name, value] : of_a) {
    auto const it = of_b.find(name);
    if (it == of_b.end() || it->second != value) entry.xattrs.push_back(name);
  }
  for (auto const& x : of_b) {
    if (!of_a.contains(x.first)) entry.xattrs.push_back(x.first);
  }
  std::sort(entry.xattrs.begin(), entry.xattrs.end());
  entry.changes |= kDiffXattrs;
  return {};
}

Status Differ::compare_all(Inode ia, InodeInfo const& a, Inode ib, InodeInfo const& b,
                           DiffEntry& entry) {
  compare_attributes(a, b, entry);
  LCFS_TRY(compare_xattrs(ia, ib, entry));
  if ((entry.changes & kDiffType) != 0) return {};
  if (S_ISREG(b.mode)) {
    LCFS_TRY_ASSIGN(entry.content, content_.compare(ia, a.size, ib, b.size, nullptr));
    if (!entry.content.empty()) entry.changes |= kDiffContent;
  }
  if (S_ISLNK(b.mode)) {
    LCFS_TRY_ASSIGN(auto const target_a, a_.target(ia));
    LCFS_TRY_ASSIGN(auto const target_b, b_.target(ib));
    if (target_a != target_b) entry.changes |= kDiffTarget;
  }
  return {};
}

bool Differ::wanted(std::string_view path) const {
  if (options_.below.empty()) return true;
  return std::any_of(options_.below.begin(), options_.below.end(), [&](std::string const& top) {
    return top == "/" || path == top ||
           (path.size() > top.size() && path.starts_with(top) && path[top.size()] == '/');
  });
}

void Differ::emit(DiffEntry entry) {
  if (options_.exclude_times) entry.changes &= ~std::uint32_t{kDiffTimes};
  if (entry.kind == DiffKind::kModified && entry.changes == 0) return;
  if (!wanted(entry.path) && (entry.from.empty() || !wanted(entry.from))) return;
  out_.push_back(std::move(entry));
}

}  // namespace lcfs
