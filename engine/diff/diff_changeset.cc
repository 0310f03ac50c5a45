// SPDX-License-Identifier: Apache-2.0
// From differences to what an OCI layer must contain.  Only paths count there: what moved is
// deleted and added, with all that is in it.  What replaces a directory must hide what that
// contained.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <set>

#include "engine/diff.h"

namespace lcfs {
namespace {

std::string parent_of(std::string const& path) {
  auto const slash = path.rfind('/');
  return slash == 0 ? "/" : path.substr(0, slash);
}

class Planner {
 public:
  Planner(LayerDiff& diff, bool any_names) : a_(diff.a()), b_(diff.b()), any_names_(any_names) {}

  Result<std::vector<ChangesetItem>> plan(std::vector<DiffEntry> const& entries) {
    for (auto const& e : entries) {
      switch (e.kind) {
        case DiffKind::kDeleted: LCFS_TRY(gone(e.path)); break;
        case DiffKind::kModified: files_.emplace(e.path, e.b); break;
        case DiffKind::kAdded:
          files_.emplace(e.path, e.b);
          if (S_ISDIR(e.mode)) LCFS_TRY(hide_old(e.path, e.b));
          break;
        case DiffKind::kRenamed:
          LCFS_TRY(gone(e.from));
          LCFS_TRY(add_tree(e.path, e.b));
          break;
      }
    }
    LCFS_TRY(add_links());
    LCFS_TRY(add_parents());
    return items();
  }

 private:
  Result<bool> is_directory(Inode inode) {
    LCFS_TRY_ASSIGN(auto const info, b_.inode(inode));
    return S_ISDIR(info.mode);
  }

  // `path` of the first layer is gone, or something else.
  Status gone(std::string const& path) {
    LCFS_TRY_ASSIGN(Inode const now, b_.find(path));
    if (now != 0) return {};  // it is added again
    LCFS_TRY_ASSIGN(Inode const above, b_.find(parent_of(path)));
    if (above == 0) return {};  // its directory is deleted
    LCFS_TRY_ASSIGN(bool const directory, is_directory(above));
    if (directory) whiteouts_.insert(path);
    return {};
  }

  // A directory that replaces another one of the first layer.
  Status hide_old(std::string const& path, Inode directory) {
    LCFS_TRY_ASSIGN(Inode const old, a_.find(path));
    if (old == 0) return {};
    LCFS_TRY_ASSIGN(auto const info, a_.inode(old));
    if (!S_ISDIR(info.mode)) return {};
    LCFS_TRY_ASSIGN(auto const names, a_.entries(old));
    for (auto const& name : names) {
      LCFS_TRY_ASSIGN(Inode const now, b_.entry(directory, name.name));
      if (now == 0) whiteouts_.insert(LayerSnapshot::join(path, name.name));
    }
    return {};
  }

  Status add_tree(std::string const& top, Inode inode) {
    std::vector<std::pair<std::string, Inode>> todo{{top, inode}};
    while (!todo.empty()) {
      auto const [path, here] = std::move(todo.back());
      todo.pop_back();
      files_.emplace(path, here);
      LCFS_TRY_ASSIGN(bool const directory, is_directory(here));
      if (!directory) continue;
      LCFS_TRY(hide_old(path, here));
      LCFS_TRY_ASSIGN(auto const names, b_.entries(here));
      for (auto const& name : names)
        todo.emplace_back(LayerSnapshot::join(path, name.name), name.inode);
    }
    return {};
  }

  // If one name of a file is replaced, all must be, or they are two files.
  Status add_links() {
    std::map<std::string, Inode> more;
    std::set<Inode> done;
    for (auto const& [path, inode] : files_) {
      LCFS_TRY_ASSIGN(auto const info, b_.inode(inode));
      if (S_ISDIR(info.mode) || info.nlink == 1 || !done.insert(inode).second) continue;
      LCFS_TRY_ASSIGN(auto const paths, b_.paths(inode));
      for (auto const& other : paths) more.emplace(other, inode);
    }
    files_.merge(more);
    return {};
  }

  Status add_parents() {
    std::set<std::string> above;
    auto const add = [&above](std::string path) {
      while (path != "/" && above.insert(path = parent_of(path)).second) {
      }
    };
    for (auto const& f : files_) add(f.first);
    for (auto const& path : whiteouts_) add(path);
    for (auto const& path : above) {
      LCFS_TRY_ASSIGN(Inode const inode, b_.find(path));
      if (inode != 0) files_.emplace(path, inode);
    }
    return {};
  }

  // A directory, then all that is in it: GNU tar sets a directory's times at the first entry that
  // is not below it.
  static bool in_tree_order(std::string const& x, std::string const& y) {
    auto const rank = [](char c) { return c == '/' ? 0 : static_cast<unsigned char>(c); };
    return std::lexicographical_compare(x.begin(), x.end(), y.begin(), y.end(),
                                        [&](char a, char b) { return rank(a) < rank(b); });
  }

  Result<std::vector<ChangesetItem>> items() {
    std::vector<ChangesetItem> out;
    for (auto const& [path, inode] : files_) {
      if (!any_names_ && path.find("/.wh.") != std::string::npos) {
        return Error::invalid("a name that begins with \".wh.\" marks a deletion in an OCI layer")
            .in(path);
      }
      out.push_back({path, false, inode, {}});
    }
    for (auto const& path : whiteouts_) out.push_back({path, true, 0, {}});
    std::sort(out.begin(), out.end(),
              [](auto const& x, auto const& y) { return in_tree_order(x.path, y.path); });
    std::map<Inode, std::string> first;
    for (auto& item : out) {
      if (item.whiteout) continue;
      auto const [it, fresh] = first.emplace(item.inode, item.path);
      if (!fresh) item.link_to = it->second;
    }
    return out;
  }

  LayerSnapshot& a_;
  LayerSnapshot& b_;
  bool const any_names_;
  std::map<std::string, Inode> files_;
  std::set<std::string> whiteouts_;
};

}  // namespace

Result<std::vector<ChangesetItem>> changeset_of(LayerDiff& diff,
                                                std::vector<DiffEntry> const& entries,
                                                bool any_names) {
  return Planner(diff, any_names).plan(entries);
}

}  // namespace lcfs
