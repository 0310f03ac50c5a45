// SPDX-License-Identifier: Apache-2.0
// In related layers: what is at the same path in both, under different inodes, and equal.
//
// A squash, or files and directories that swap places, can lead to a tree whose inodes have moved
// and whose paths have not.  By inodes that would be moves in a circle; in fact nothing differs.
// So names that have another inode are compared with all that is below them, as far as both are
// equal.  This is done only if any inode moved at all.
#include <sys/stat.h>

#include <algorithm>

#include "engine/diff/diff_impl.h"

namespace lcfs {

bool Differ::any_moved() const {
  auto const some = [](auto const& lists, auto const& has) {
    return std::any_of(lists.begin(), lists.end(), [&](auto const& list) {
      return std::any_of(list.second.begin(), list.second.end(),
                         [&](Name const& name) { return has(name.inode); });
    });
  };
  return some(gone_, [this](Inode i) { return has_b(i); }) ||
         some(come_, [this](Inode i) { return has_a(i); });
}

Status Differ::settle() {
  if (!any_moved()) return {};
  std::vector<Standing> equal;
  for (auto const& t : touched_) {
    if (!t.dirents || !has_a(t.inode) || !has_b(t.inode)) continue;
    auto const gone = gone_.find(t.inode), come = come_.find(t.inode);
    if (gone == gone_.end() || come == come_.end()) continue;
    LCFS_TRY_ASSIGN(auto const path_a, a_.path(t.inode));
    LCFS_TRY_ASSIGN(auto const path_b, b_.path(t.inode));
    if (path_a != path_b) continue;
    std::unordered_map<std::string_view, Inode> there;
    for (auto const& name : come->second) there.emplace(name.name, name.inode);
    for (auto const& name : gone->second) {
      auto const it = there.find(name.name);
      if (it == there.end() || it->second == name.inode) continue;
      Standing s{t.inode, name.name, {}, {}};
      LCFS_TRY_ASSIGN(bool const same, compare_standing(name.inode, it->second, s));
      if (same) equal.push_back(std::move(s));
    }
  }
  drop_half_known(equal);
  for (auto const& s : equal) {
    auto const forget = [&](std::vector<Name>& names) {
      std::erase_if(names, [&](Name const& n) { return n.name == s.name; });
    };
    forget(gone_[s.directory]);
    forget(come_[s.directory]);
    for (auto const& in : {&s.in_a, &s.in_b}) {
      for (auto const& [inode, names] : *in) settled_.insert(inode);
    }
  }
  return {};
}

// An inode is reported once.  So what has an inode that is also, in either layer, at a place where
// things are not equal is reported by inodes after all; and so on.
void Differ::drop_half_known(std::vector<Standing>& equal) const {
  for (std::size_t before = equal.size() + 1; equal.size() < before;) {
    before = equal.size();
    Standing all;
    for (auto const& s : equal) {
      for (auto const& [inode, names] : s.in_a) all.in_a[inode].met += names.met;
      for (auto const& [inode, names] : s.in_b) all.in_b[inode].met += names.met;
    }
    auto const known = [](Inode inode, Names const& names, auto const& here, auto const& other,
                          bool both) {
      return here.at(inode).met == names.all && (!both || other.contains(inode));
    };
    std::erase_if(equal, [&](Standing const& s) {
      return !std::all_of(s.in_a.begin(), s.in_a.end(), [&](auto const& x) {
        return known(x.first, x.second, all.in_a, all.in_b, has_b(x.first));
      }) || !std::all_of(s.in_b.begin(), s.in_b.end(), [&](auto const& x) {
        return known(x.first, x.second, all.in_b, all.in_a, has_a(x.first));
      });
    });
  }
}

// Compares all but the contents first: that is cheap, and mostly enough to find a difference.
Result<bool> Differ::compare_standing(Inode top_a, Inode top_b, Standing& s) {
  std::uint32_t const count =
      options_.exclude_times ? ~std::uint32_t{kDiffTimes} : ~std::uint32_t{0};
  std::vector<std::pair<Inode, Inode>> todo{{top_a, top_b}}, files;
  while (!todo.empty()) {
    auto const [ia, ib] = todo.back();
    todo.pop_back();
    LCFS_TRY_ASSIGN(auto const a, a_.inode(ia));
    LCFS_TRY_ASSIGN(auto const b, b_.inode(ib));
    bool const directory = S_ISDIR(a.mode);
    bool const fresh = s.in_a.emplace(ia, Names{0, directory ? 1 : a.nlink}).second;
    s.in_b.emplace(ib, Names{0, directory ? 1 : b.nlink});
    ++s.in_a[ia].met;
    ++s.in_b[ib].met;
    if (!fresh) {
      if (directory) return false;  // it has two names: damage, which others report
      continue;
    }
    DiffEntry entry;
    compare_attributes(a, b, entry);
    if ((entry.changes & count) != 0 || (!directory && a.size != b.size)) return false;
    LCFS_TRY(compare_xattrs(ia, ib, entry));
    if ((entry.changes & kDiffXattrs) != 0) return false;
    if (!directory) {
      if (a.nlink != 1) {
        LCFS_TRY_ASSIGN(auto const paths_a, a_.paths(ia));
        LCFS_TRY_ASSIGN(auto const paths_b, b_.paths(ib));
        if (paths_a != paths_b) return false;
      }
      files.emplace_back(ia, ib);
      continue;
    }
    LCFS_TRY_ASSIGN(auto const in_a, a_.entries(ia));
    LCFS_TRY_ASSIGN(auto const in_b, b_.entries(ib));
    if (!std::equal(in_a.begin(), in_a.end(), in_b.begin(), in_b.end(),
                    [](Name const& x, Name const& y) { return x.name == y.name; }))
      return false;
    for (std::size_t i = 0; i < in_a.size(); ++i) todo.emplace_back(in_a[i].inode, in_b[i].inode);
  }
  for (auto const& [ia, ib] : files) {
    LCFS_TRY_ASSIGN(auto const a, a_.inode(ia));
    if (S_ISREG(a.mode)) {
      LCFS_TRY_ASSIGN(auto const differs, content_.compare(ia, a.size, ib, a.size, nullptr));
      if (!differs.empty()) return false;
    }
    if (S_ISLNK(a.mode)) {
      LCFS_TRY_ASSIGN(auto const target_a, a_.target(ia));
      LCFS_TRY_ASSIGN(auto const target_b, b_.target(ib));
      if (target_a != target_b) return false;
    }
  }
  return true;
}

}  // namespace lcfs
