// SPDX-License-Identifier: Apache-2.0
#include "tests/support/naive_diff.h"

#include <sys/stat.h>

#include <algorithm>

#include "format/layout.h"
#include "tests/support/layer_files.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {
namespace {

std::string words(std::uint32_t changes, std::vector<ByteRange> const& content,
                  std::vector<std::string> const& xattrs) {
  char const* const names[] = {"type",   "content", "mode",   "owner", "times",
                               "xattrs", "rdev",    "target", "links"};
  std::string out;
  for (unsigned i = 0; i < std::size(names); ++i) {
    if ((changes >> i & 1) != 0) out += std::string(" ") + names[i];
  }
  for (auto const& r : content)
    out += " " + std::to_string(r.offset) + "+" + std::to_string(r.length);
  for (auto const& x : xattrs) out += " " + x;
  return out;
}

class Naive {
 public:
  Naive(Listing const& a, Listing const& b) : a_(a), b_(b), related_(a.root == b.root) {}

  Lines run() {
    if (related_) renumber();
    pair_directories();
    if (!related_) changed("/", a_.root, b_.root);
    for (auto const& [link, i] : a_.entries) {
      Inode const j = partner(link);
      if (j == i) continue;
      if (j != 0 && !shared(i) && !shared(j)) {
        for (auto const& path : b_.files.at(pairs_.at(link.first)).paths)
          changed(join(path, link.second), i, j);
      } else if (shared(i)) {
        removed_[i].insert(join(*a_.files.at(link.first).paths.begin(), link.second));
      } else {
        out_.push_back("D " + join(*a_.files.at(link.first).paths.begin(), link.second));
      }
    }
    std::map<Inode, Inode> back;
    for (auto const& [x, y] : pairs_) back[y] = x;
    for (auto const& [link, j] : b_.entries) {
      Inode const i = back.contains(link.first) ? a_.child(back[link.first], link.second) : 0;
      if (i == j || (i != 0 && !shared(i) && !shared(j))) continue;
      auto const path = join(*b_.files.at(link.first).paths.begin(), link.second);
      if (shared(j)) {
        added_[j].insert(path);
      } else {
        auto const& names = b_.files.at(j).paths;
        out_.push_back("A " + path + (*names.begin() == path ? "" : " = " + *names.begin()));
      }
    }
    for (auto const& [i, file] : a_.files) {
      if (shared(i)) shared_file(i);
    }
    std::sort(out_.begin(), out_.end());
    return out_;
  }

 private:
  static std::string join(std::string const& dir, std::string const& name) {
    return dir == "/" ? dir + name : dir + "/" + name;
  }
  [[nodiscard]] bool shared(Inode i) const {
    return related_ && a_.files.contains(i) && b_.files.contains(i);
  }
  Inode partner(Link const& link) {
    auto const it = pairs_.find(link.first);
    return it == pairs_.end() ? 0 : b_.child(it->second, link.second);
  }
  void pair_directories() {
    for (auto const& f : a_.files) {
      if (shared(f.first) && S_ISDIR(f.second.info.mode)) pairs_[f.first] = f.first;
    }
    if (!related_) pairs_[a_.root] = b_.root;
    for (bool more = true; more;) {
      more = false;
      for (auto const& [link, i] : a_.entries) {
        if (pairs_.contains(i) || !S_ISDIR(a_.files.at(i).info.mode)) continue;
        Inode const j = partner(link);
        if (j == 0 || shared(j) || !S_ISDIR(b_.files.at(j).info.mode)) continue;
        pairs_[i] = j;
        more = true;
      }
    }
  }
  // Whether all at and below `path` is equal, whatever its inodes.
  bool equal_below(std::string const& path) {
    std::set<std::string> in_a, in_b;
    auto const below = [&path](auto const& paths, std::set<std::string>& into) {
      for (auto const& p : paths) {
        if (p.first == path || p.first.starts_with(path + "/")) into.insert(p.first);
      }
    };
    below(a_.paths, in_a);
    below(b_.paths, in_b);
    return in_a == in_b && std::all_of(in_a.begin(), in_a.end(), [this](std::string const& p) {
             Inode const i = a_.paths.at(p), j = b_.paths.at(p);
             auto const& x = a_.files.at(i);
             return difference(i, j, false).empty() &&
                    (S_ISDIR(x.info.mode) || x.paths == b_.files.at(j).paths);
           });
  }
  // Gives what is equal at one path in both the same inode, if that leaves every inode with one
  // meaning.
  void renumber() {
    // At which another inode stands, below directories that are the same.
    std::set<std::string> tops;
    for (auto const& [path, i] : a_.paths) {
      if (path == "/" || !b_.paths.contains(path) || b_.paths.at(path) == i) continue;
      auto const slash = path.rfind('/');
      Inode const above = a_.paths.at(slash == 0 ? "/" : path.substr(0, slash));
      if (b_.paths.at(slash == 0 ? "/" : path.substr(0, slash)) == above && equal_below(path))
        tops.insert(path);
    }
    auto const in_tops = [&tops](std::string const& path) {
      return std::any_of(tops.begin(), tops.end(), [&](std::string const& t) {
        return path == t || path.starts_with(t + "/");
      });
    };
    auto const whole = [&](Listing const& l, Inode i) {
      return !l.files.contains(i) ||
             std::all_of(l.files.at(i).paths.begin(), l.files.at(i).paths.end(), in_tops);
    };
    for (bool again = true; again;) {
      again = false;
      std::set<std::string> broken;
      for (auto const& top : tops) {
        for (Listing const* l : {&a_, static_cast<Listing const*>(&b_)}) {
          for (auto const& [path, i] : l->paths) {
            if ((path == top || path.starts_with(top + "/")) && !(whole(a_, i) && whole(b_, i)))
              broken.insert(top);
          }
        }
      }
      for (auto const& top : broken) again = tops.erase(top) != 0;
    }
    std::map<Inode, Inode> now;
    for (auto const& [path, j] : b_.paths) {
      if (in_tops(path)) now[j] = a_.paths.at(path);
    }
    if (now.empty()) return;
    Listing fresh;
    auto const of = [&now](Inode j) { return now.contains(j) ? now.at(j) : j; };
    fresh.root = b_.root;
    for (auto const& [link, j] : b_.entries) fresh.entries[{of(link.first), link.second}] = of(j);
    for (auto const& [path, j] : b_.paths) fresh.paths[path] = of(j);
    for (auto const& [j, file] : b_.files) {
      auto& f = fresh.files[of(j)] = file;
      f.links.clear();
      for (auto const& [directory, name] : file.links) f.links.insert({of(directory), name});
    }
    b_ = std::move(fresh);
  }

  // What differs between two files, and in which words.
  std::string difference(Inode i, Inode j, bool links = true) {
    File const &x = a_.files.at(i), &y = b_.files.at(j);
    std::uint32_t c = 0;
    std::vector<ByteRange> content;
    std::vector<std::string> xattrs;
    bool const type = (x.info.mode & S_IFMT) != (y.info.mode & S_IFMT);
    if (type) c |= kDiffType;
    if ((x.info.mode & 07777) != (y.info.mode & 07777)) c |= kDiffMode;
    if (x.info.uid != y.info.uid || x.info.gid != y.info.gid) c |= kDiffOwner;
    if (x.info.mtime != y.info.mtime) c |= kDiffTimes;
    if (!type && x.info.rdev != y.info.rdev) c |= kDiffRdev;
    if (!type && S_ISLNK(x.info.mode) && x.content != y.content) c |= kDiffTarget;
    std::set<std::string> names;
    for (auto const& n : x.xattrs) names.insert(n.first);
    for (auto const& n : y.xattrs) names.insert(n.first);
    for (auto const& n : names) {
      if (x.xattrs.contains(n) != y.xattrs.contains(n) || x.xattrs.at(n) != y.xattrs.at(n))
        xattrs.push_back(n);
    }
    if (!xattrs.empty()) c |= kDiffXattrs;
    if (!type && S_ISREG(x.info.mode)) {
      std::size_t const low = std::min(x.content.size(), y.content.size()),
                        high = std::max(x.content.size(), y.content.size());
      for (std::size_t at = 0; at < high; at += kBlockSize) {
        std::size_t const end = std::min<std::size_t>(high, at + kBlockSize);
        if (end <= low && x.content.compare(at, end - at, y.content, at, end - at) == 0) continue;
        if (!content.empty() && content.back().offset + content.back().length == at) {
          content.back().length += end - at;
        } else {
          content.push_back({at, end - at});
        }
      }
      if (!content.empty()) c |= kDiffContent;
    }
    if (links && !type && !S_ISDIR(x.info.mode)) {
      std::set<Link> mapped;
      for (auto const& l : x.links)
        mapped.insert({pairs_.contains(l.first) ? pairs_.at(l.first) : 0, l.second});
      if (i == j ? x.links.size() != y.links.size() : mapped != y.links) c |= kDiffLinks;
    }
    return words(c, content, xattrs);
  }
  void changed(std::string const& path, Inode i, Inode j) {
    auto const what = difference(i, j);
    if (!what.empty()) out_.push_back("C " + path + what);
  }
  void shared_file(Inode i) {
    auto const what = difference(i, i);
    std::vector<std::string> const gone(removed_[i].begin(), removed_[i].end()),
        come(added_[i].begin(), added_[i].end());
    std::size_t const moves = std::min(gone.size(), come.size());
    for (std::size_t k = 0; k < moves; ++k)
      out_.push_back("R " + gone[k] + " -> " + come[k] + what);
    for (std::size_t k = moves; k < gone.size(); ++k) out_.push_back("D " + gone[k]);
    std::set<std::string> const fresh(come.begin() + static_cast<std::ptrdiff_t>(moves),
                                      come.end());
    for (auto const& path : b_.files.at(i).paths) {
      if (std::find(come.begin(), come.end(), path) == come.end() && !what.empty())
        out_.push_back("C " + path + what);
    }
    for (auto const& path : fresh) {
      for (auto const& other : b_.files.at(i).paths) {
        if (fresh.contains(other)) continue;
        out_.push_back("A " + path + " = " + other);
        break;
      }
    }
  }

  Listing const& a_;
  Listing b_;
  bool const related_;
  std::map<Inode, Inode> pairs_;
  std::map<Inode, std::set<std::string>> removed_, added_;
  Lines out_;
};

}  // namespace

Listing list(Layer& layer) {
  Listing out;
  out.root = layer.root();
  std::vector<std::pair<Inode, std::string>> todo{{out.root, ""}};
  auto look = [&](Inode inode, std::string const& path) {
    auto& f = out.files[inode];
    f.paths.insert(path.empty() ? "/" : path);
    out.paths[path.empty() ? "/" : path] = inode;
    f.info = must(layer.getattr(inode)).info;
    for (auto const& name : must(layer.listxattr(inode)))
      f.xattrs[name] = must(layer.getxattr(inode, name));
    if (S_ISLNK(f.info.mode)) f.content = must(layer.readlink(inode));
    if (S_ISREG(f.info.mode)) f.content = content(layer, inode);
  };
  look(out.root, "");
  while (!todo.empty()) {
    auto const [dir, path] = todo.back();
    todo.pop_back();
    for (auto const& e : entries_of(layer, dir)) {
      auto const here = path + "/" + e.name;
      out.entries[{dir, e.name}] = e.inode;
      look(e.inode, here);
      out.files[e.inode].links.insert({dir, e.name});
      if (S_ISDIR(out.files[e.inode].info.mode)) todo.emplace_back(e.inode, here);
    }
  }
  return out;
}

Lines lines_of(std::vector<DiffEntry> const& entries) {
  Lines out;
  for (auto const& e : entries) {
    std::string const tail = words(e.changes, e.content, e.xattrs);
    switch (e.kind) {
      case DiffKind::kAdded:
        out.push_back("A " + e.path + (e.link_to.empty() ? "" : " = " + e.link_to));
        break;
      case DiffKind::kDeleted: out.push_back("D " + e.path); break;
      case DiffKind::kModified: out.push_back("C " + e.path + tail); break;
      case DiffKind::kRenamed: out.push_back("R " + e.from + " -> " + e.path + tail); break;
    }
  }
  return out;
}

Lines naive_diff(Listing const& a, Listing const& b) { return Naive(a, b).run(); }

}  // namespace lcfs::test
