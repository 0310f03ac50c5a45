// SPDX-License-Identifier: Apache-2.0
#include "engine/delta.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <functional>

#include "engine/import/delta_impl.h"

namespace lcfs {

namespace {

constexpr std::size_t kMaxPath = 64 * 1024;
constexpr int kMaxHops = 40;  // as Linux's MAXSYMLINKS

Error bad_path(std::string_view path, std::string what) {
  return Error::invalid(std::move(what)).in(std::string(path));
}

}  // namespace

std::uint64_t StringArena::add(std::string_view s) {
  if (kChunk - used_ < s.size()) {
    chunks_.push_back(std::make_unique<char[]>(kChunk));
    used_ = 0;
  } else if (chunks_.empty()) {
    return 0;  // an empty string in an empty arena: never read
  }
  std::uint64_t const at = (chunks_.size() - 1) * kChunk + used_;
  if (!s.empty()) std::memcpy(chunks_.back().get() + used_, s.data(), s.size());
  used_ += s.size();
  return at;
}

Result<std::vector<std::string_view>> split_path(std::string_view path) {
  if (path.size() > kMaxPath)
    return bad_path(path.substr(0, 256), fmt::format("path of {} bytes is too long", path.size()));
  if (path.find('\0') != std::string_view::npos)
    return bad_path(path.substr(0, path.find('\0')), "path has a NUL in it");
  std::vector<std::string_view> parts;
  for (std::size_t at = 0; at < path.size();) {
    std::size_t end = path.find('/', at);
    if (end == std::string_view::npos) end = path.size();
    auto const part = path.substr(at, end - at);
    at = end + 1;
    if (part.empty() || part == ".") continue;
    if (part == "..") return bad_path(path, "path has '..' in it");
    if (part.size() > kMaxName)
      return bad_path(path, fmt::format("name of {} bytes is too long", part.size()));
    parts.push_back(part);
  }
  return parts;
}

Delta::Impl::Impl() : table_(64, kNone) {
  nodes.add({});
  nodes[0].kind = kImplied;
  implied = 1;
}

std::size_t Delta::Impl::slot_of(std::uint32_t parent, std::string_view name) const {
  std::size_t const mask = table_.size() - 1;
  std::size_t at =
      (std::hash<std::string_view>{}(name) ^ (std::size_t{parent} * 0x9e3779b97f4a7c15ull)) & mask;
  while (table_[at] != kNone) {
    auto const& n = nodes[table_[at]];
    if (n.parent == parent && this->name(n) == name) break;
    at = (at + 1) & mask;
  }
  return at;
}

void Delta::Impl::grow() {
  std::vector<std::uint32_t> old(table_.size() * 2, kNone);
  old.swap(table_);
  for (std::uint32_t const i : old) {
    if (i != kNone) table_[slot_of(nodes[i].parent, name(nodes[i]))] = i;
  }
}

std::uint32_t Delta::Impl::find(std::uint32_t parent, std::string_view name) const {
  return table_[slot_of(parent, name)];
}

std::uint32_t Delta::Impl::make(std::uint32_t parent, std::string_view name, NodeKind kind) {
  if ((used_slots_ + 1) * 4 > table_.size() * 3) grow();
  Node n;
  n.name = names.add(name);
  n.name_size = static_cast<std::uint8_t>(name.size());
  n.parent = parent;
  n.kind = kind;
  n.next_sibling = nodes[parent].first_child;
  std::uint32_t const index = nodes.add(n);
  nodes[parent].first_child = index;
  std::size_t const slot = slot_of(parent, name);
  if (table_[slot] == kNone) ++used_slots_;
  table_[slot] = index;  // over a dead node, if there is one
  if (kind == kImplied) ++implied;
  return index;
}

std::uint32_t Delta::Impl::replace(std::uint32_t node, NodeKind kind) {
  last_parent_node_ = kNone;
  std::vector<std::uint32_t> todo{node};
  while (!todo.empty()) {
    auto& n = nodes[todo.back()];
    todo.pop_back();
    n.dead = true;
    for (std::uint32_t c = n.first_child; c != kNone; c = nodes[c].next_sibling) {
      if (!nodes[c].dead) todo.push_back(c);
    }
  }
  Node const old = nodes[node];
  std::uint32_t const fresh = make(old.parent, name(old), kind);
  nodes[fresh].hides = true;
  return fresh;
}

std::string Delta::Impl::path_of(std::uint32_t node) const {
  std::vector<std::string_view> parts;
  for (; node != 0; node = nodes[node].parent) parts.push_back(name(nodes[node]));
  std::string out;
  for (auto it = parts.rbegin(); it != parts.rend(); ++it) {
    if (!out.empty()) out += '/';
    out += *it;
  }
  return out;
}

namespace {

// Walks the parents of a path inside one layer, following the layer's own symlinks.
class Walker {
 public:
  Walker(Delta::Impl& impl, std::string_view path) : impl_(impl), path_(path) {}

  Result<Delta::Impl::Place> run(bool make_missing) {
    LCFS_TRY_ASSIGN(auto const parts, split_path(path_));
    for (auto it = parts.rbegin(); it != parts.rend(); ++it) todo_.emplace_back(*it);
    while (todo_.size() > 1 || (todo_.size() == 1 && todo_.back() == "..")) {
      std::string const part = std::move(todo_.back());
      todo_.pop_back();
      if (part == "..") {
        at_ = impl_.nodes[at_].parent;  // the root's parent is the root
        continue;
      }
      LCFS_TRY_ASSIGN(bool const there, step(part, make_missing));
      if (!there) {  // only when nothing is made: the rest is not in this layer
        todo_.push_back(part);
        missing_ = true;
        break;
      }
    }
    Delta::Impl::Place place;
    place.parent = at_;
    if (todo_.empty()) {
      place.node = at_;
      return place;
    }
    if (missing_) return place;
    last_ = todo_.back();
    place.name = last_;
    std::uint32_t const found = impl_.find(at_, last_);
    if (found != kNone && !impl_.nodes[found].dead) place.node = found;
    return place;
  }

  // After run(false): what is left of the path below Place::parent.
  [[nodiscard]] std::string rest() const {
    std::string out;
    for (auto it = todo_.rbegin(); it != todo_.rend(); ++it) {
      if (!out.empty()) out += '/';
      out += *it;
    }
    return out;
  }
  [[nodiscard]] std::string const& last() const { return last_; }

 private:
  Result<bool> step(std::string const& part, bool make_missing) {
    std::uint32_t const next = impl_.find(at_, part);
    if (next == kNone || impl_.nodes[next].dead) {
      if (!make_missing) return false;
      at_ = impl_.make(at_, part, Delta::Impl::kImplied);
      return true;
    }
    auto const& n = impl_.nodes[next];
    if (n.kind == Delta::Impl::kImplied || n.kind == Delta::Impl::kDirectory) {
      at_ = next;
      return true;
    }
    if (n.kind == Delta::Impl::kOther && S_ISLNK(impl_.files[n.inode].mode)) {
      if (++hops_ > kMaxHops) return bad_path(path_, "too many symlinks on the way");
      return follow(impl_.target(impl_.files[n.inode]));
    }
    if (!make_missing) return false;
    at_ = impl_.replace(next, Delta::Impl::kImplied);  // it was not a directory; now it is
    return true;
  }

  Result<bool> follow(std::string_view target) {
    if (target.starts_with('/')) at_ = 0;
    std::vector<std::string> parts;
    for (std::size_t at = 0; at < target.size();) {
      std::size_t end = target.find('/', at);
      if (end == std::string_view::npos) end = target.size();
      auto const part = target.substr(at, end - at);
      at = end + 1;
      if (part.empty() || part == ".") continue;
      if (part.size() > kMaxName)
        return bad_path(path_, "a symlink on the way has a name that is too long");
      parts.emplace_back(part);
    }
    for (auto it = parts.rbegin(); it != parts.rend(); ++it) todo_.push_back(std::move(*it));
    if (todo_.size() > kMaxPath)
      return bad_path(path_, "symlinks on the way make the path too long");
    return true;
  }

  Delta::Impl& impl_;
  std::string_view path_;
  std::vector<std::string> todo_;  // components, last one first
  std::uint32_t at_ = 0;
  int hops_ = 0;
  bool missing_ = false;
  std::string last_;
};

}  // namespace

Result<Delta::Impl::Place> Delta::Impl::place(std::string_view path) {
  std::size_t const slash = path.rfind('/');
  std::string_view const parent =
      slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
  std::string_view const last = slash == std::string_view::npos ? path : path.substr(slash + 1);
  bool const plain = !last.empty() && last != "." && last != ".." && last.size() <= kMaxName &&
                     last.find('\0') == std::string_view::npos;
  if (plain && last_parent_node_ != kNone && parent == last_parent_ && path.size() <= kMaxPath) {
    std::uint32_t const found = find(last_parent_node_, last);
    return Place{last_parent_node_, last, found != kNone && !nodes[found].dead ? found : kNone};
  }
  Walker walker(*this, path);
  LCFS_TRY_ASSIGN(Place p, walker.run(true));
  if (!p.name.empty()) {
    // The name must outlive the walker: the bytes of the path do, those of a followed symlink do
    // not.  Only the last component matters, and that always comes from the path.
    auto const parts = split_path(path);
    p.name = parts->back();
    if (plain) {
      last_parent_ = parent;
      last_parent_node_ = p.parent;
    }
  }
  return p;
}

// The node for an entry of `kind` at `place`: fresh, or the directory that stays.
Result<std::uint32_t> Delta::Impl::settle(Place const& place, NodeKind kind) {
  if (place.node == kNone) return make(place.parent, place.name, kind);
  auto& n = nodes[place.node];
  bool const was_dir = n.kind == kImplied || n.kind == kDirectory;
  if (kind == kDirectory && was_dir) {
    if (n.kind == kImplied) --implied;
    n.kind = kDirectory;
    return place.node;
  }
  if (place.node == 0) return Error::invalid("the root can only be a directory");
  return replace(place.node, kind);
}

void Delta::Impl::set_meta(File& f, EntryMeta const& meta, std::uint32_t type) {
  f.mode = type | (meta.permissions & 07777);
  f.uid = meta.uid;
  f.gid = meta.gid;
  f.mtime_sec = meta.mtime.sec;
  f.mtime_nsec = meta.mtime.nsec & 0x3fffffff;
  f.xattrs = kNone;
  if (!meta.xattrs.empty()) f.xattrs = xattrs.add(meta.xattrs);
}

void Delta::Impl::attach(std::uint32_t node, std::uint32_t file) {
  nodes[node].inode = file;
  nodes[node].next_link = files[file].first_node;
  files[file].first_node = node;
}

std::uint32_t Delta::Impl::add_file(EntryMeta const& meta, std::uint32_t type) {
  std::uint32_t const index = files.add({});
  set_meta(files[index], meta, type);
  return index;
}

Delta::Delta() : impl_(std::make_unique<Impl>()) {}
Delta::~Delta() = default;
Delta::Delta(Delta&&) noexcept = default;
Delta& Delta::operator=(Delta&&) noexcept = default;

std::uint64_t Delta::entries() const { return impl_->nodes.size(); }

Status Delta::check_path(std::string_view path) {
  LCFS_TRY(split_path(path));
  return {};
}

Status Delta::add_directory(std::string_view path, EntryMeta const& meta) {
  LCFS_TRY_ASSIGN(auto const place, impl_->place(path));
  LCFS_TRY_ASSIGN(std::uint32_t const node, impl_->settle(place, Impl::kDirectory));
  if (impl_->nodes[node].inode != kNone) {
    impl_->set_meta(impl_->files[impl_->nodes[node].inode], meta, S_IFDIR);
  } else {
    impl_->attach(node, impl_->add_file(meta, S_IFDIR));
  }
  return {};
}

Status Delta::add_file(std::string_view path, EntryMeta const& meta, Content content) {
  if (content.blocks > ~std::uint32_t{0})
    return bad_path(path, "file with more than 16 TiB of data");
  LCFS_TRY_ASSIGN(auto const place, impl_->place(path));
  LCFS_TRY_ASSIGN(std::uint32_t const node, impl_->settle(place, Impl::kOther));
  std::uint32_t const file = impl_->add_file(meta, S_IFREG);
  impl_->files[file].blocks = static_cast<std::uint32_t>(content.blocks);
  impl_->files[file].size = content.size;
  impl_->files[file].data = content.handle;
  impl_->attach(node, file);
  return {};
}

Status Delta::add_symlink(std::string_view path, EntryMeta const& meta, std::string_view target) {
  if (target.empty()) return bad_path(path, "symlink with an empty target");
  if (target.size() > kMaxSymlink)
    return bad_path(path, fmt::format("symlink target of {} bytes is too long", target.size()));
  if (target.find('\0') != std::string_view::npos)
    return bad_path(path, "symlink target has a NUL in it");
  LCFS_TRY_ASSIGN(auto const place, impl_->place(path));
  LCFS_TRY_ASSIGN(std::uint32_t const node, impl_->settle(place, Impl::kOther));
  EntryMeta m = meta;
  m.permissions = 0777;  // Linux knows no other
  std::uint32_t const file = impl_->add_file(m, S_IFLNK);
  impl_->files[file].size = target.size();
  impl_->files[file].data = impl_->names.add(target);
  impl_->attach(node, file);
  return {};
}

Status Delta::add_special(std::string_view path, EntryMeta const& meta, std::uint32_t type) {
  if (type != S_IFCHR && type != S_IFBLK && type != S_IFIFO && type != S_IFSOCK) {
    return bad_path(path, "not a special file type");
  }
  LCFS_TRY_ASSIGN(auto const place, impl_->place(path));
  LCFS_TRY_ASSIGN(std::uint32_t const node, impl_->settle(place, Impl::kOther));
  std::uint32_t const file = impl_->add_file(meta, type);
  if (type == S_IFCHR || type == S_IFBLK) impl_->files[file].size = meta.rdev;
  impl_->attach(node, file);
  return {};
}

Status Delta::add_hardlink(std::string_view path, std::string_view target) {
  Walker walker(*impl_, target);
  auto source = walker.run(false);
  if (!source)
    return bad_path(path,
                    "hard link: target " + source.error().path + ": " + source.error().message);
  std::uint32_t const from = source->node;
  std::string lower;
  if (from == kNone) {
    for (std::uint32_t at = source->parent;; at = impl_->nodes[at].parent) {
      if (impl_->nodes[at].hides)
        return bad_path(path, fmt::format("hard link to nothing: '{}'", target));
      if (at == 0) break;
    }
    lower = impl_->path_of(source->parent);
    if (!lower.empty()) lower += '/';
    lower += walker.rest();
  } else if (impl_->nodes[from].kind == Impl::kLowerLink) {
    lower = impl_->lower_links[impl_->nodes[from].inode];
  } else if (impl_->nodes[from].kind != Impl::kOther) {
    return bad_path(path, fmt::format("hard link to a directory: '{}'", target));
  }
  LCFS_TRY_ASSIGN(auto const place, impl_->place(path));
  if (place.node != kNone && place.node == from) return {};  // a link to itself changes nothing
  std::uint32_t const file = from != kNone ? impl_->nodes[from].inode : kNone;
  LCFS_TRY_ASSIGN(std::uint32_t const node,
                  impl_->settle(place, lower.empty() ? Impl::kOther : Impl::kLowerLink));
  if (!lower.empty()) {
    impl_->nodes[node].inode = static_cast<std::uint32_t>(impl_->lower_links.size());
    impl_->lower_links.push_back(std::move(lower));
  } else {
    impl_->attach(node, file);
  }
  return {};
}

Status Delta::add_whiteout(std::string_view path) {
  LCFS_TRY_ASSIGN(auto const parts, split_path(path));
  if (parts.empty()) return bad_path(path, "whiteout of the root");
  impl_->whiteouts.push_back(fmt::format("{}", fmt::join(parts, "/")));
  return {};
}

Status Delta::add_opaque(std::string_view directory) {
  LCFS_TRY_ASSIGN(auto const parts, split_path(directory));
  impl_->opaques.push_back(fmt::format("{}", fmt::join(parts, "/")));
  return {};
}

}  // namespace lcfs
