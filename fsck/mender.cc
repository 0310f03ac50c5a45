// SPDX-License-Identifier: Apache-2.0
// The first and the last pass.  mend_plan.cc decides between them.
#include "fsck/mender.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "format/hash.h"

namespace lcfs::fsck {
namespace {

constexpr std::uint64_t kHashBits = ~(kProbes - 1);
constexpr std::uint64_t kXattrHashBits = ~std::uint64_t{0xffff};

std::string text_of(Bytes bytes) {
  return {reinterpret_cast<char const*>(bytes.data()), bytes.size()};
}

}  // namespace

std::uint64_t Mender::hash(std::string_view name) const {
  return siphash24(c_.seed, std::as_bytes(std::span{name.data(), name.size()}));
}

std::string Mender::at(std::uint64_t inode) const {
  auto path = c_.path ? c_.path(inode) : std::string{};
  return path.empty() ? fmt::format("inode {}", inode) : path;
}

bool Mender::unique(WalkedRecord const& r, std::string name) {
  Key const group{r.key.inode, r.key.kind,
                  r.key.offset & (r.key.kind == kXattr ? kXattrHashBits : kHashBits)};
  if (group != group_) {
    group_ = group;
    group_names_.clear();
  }
  if (std::find(group_names_.begin(), group_names_.end(), name) != group_names_.end()) return false;
  group_names_.push_back(std::move(name));
  return true;
}

void Mender::take(WalkedRecord const& r) {
  if (r.key.inode == 0) {
    if (r.key.kind == kOrphan && r.key.offset != 0 && r.value.empty())
      orphans_.push_back(r.key.offset);
    else
      drop_.insert(r.key);
    return;
  }
  if (r.key.inode != now_.inode) {
    if (r.after_gap) now_.flags |= kGap;
    close();
    now_ = {};
    now_.inode = r.key.inode;
  }
  if (r.after_gap) now_.flags |= kGap;
  if (r.key.kind != kXattr) end_xattr();
  switch (r.key.kind) {
    case kInode: {
      auto const info = parse_inode(r.key, r.value);
      if (!info) {
        drop_.insert(r.key);
        return;
      }
      now_.flags |= kHas;
      now_.size = info->size;
      now_.blocks = info->blocks;
      now_.mode = info->mode;
      now_.nlink = info->nlink;
      return;
    }
    case kParent: {
      auto const p = parse_parent(r.key, r.value);
      // One at a wrong key is made again for the entry.
      if (!p || (r.key.offset & kHashBits) != parent_key(c_.seed, p->directory, p->name) ||
          !unique(r, fmt::format("{}/{}", p->directory, p->name))) {
        drop_.insert(r.key);
        return;
      }
      parents_.push_back({r.key.inode, p->directory, hash(p->name), r.key.offset, 0});
      return;
    }
    case kDirent: {
      auto const d = parse_dirent(r.key, r.value);
      if (!d || ((now_.flags & kHas) != 0 && !S_ISDIR(now_.mode))) {
        drop_.insert(r.key);
        return;
      }
      now_.flags |= kEntries;
      bool const misplaced = (r.key.offset & kHashBits) != name_key(c_.seed, d->name);
      if (misplaced || !unique(r, std::string(d->name))) {
        drop_.insert(r.key);
        if (misplaced) pending_.push_back({d->inode, r.key.inode, std::string(d->name)});
        return;
      }
      entries_.push_back({d->inode, r.key.inode, hash(d->name), r.key.offset, d->type});
      return;
    }
    case kXattr: return take_xattr(r);
    case kInline: return take_inline(r);
    case kExtent: return take_extent(r);
    default: drop_.insert(r.key);
  }
}

void Mender::take_xattr(WalkedRecord const& r) {
  if ((r.key.offset & (kXattrProbeStep - 1)) != 0) {
    auto const due = std::min(xattr_left_, kXattrChunk);
    if (due == 0 || r.key.offset != xattr_next_ || r.value.size() != due) {
      end_xattr();
      drop_.insert(r.key);
      return;
    }
    xattr_keys_.push_back(r.key);
    xattr_left_ -= due;
    ++xattr_next_;
    return;
  }
  end_xattr();
  auto const x = parse_xattr(r.key, r.value);
  if (!x || (r.key.offset & kXattrHashBits) != xattr_key(c_.seed, x->name) ||
      !unique(r, std::string(x->name))) {
    drop_.insert(r.key);
    c_.lost(fmt::format("{}: an extended attribute{} is lost", at(r.key.inode),
                        x ? fmt::format(", {},", x->name) : ""));
    return;
  }
  xattr_keys_.assign(1, r.key);
  xattr_left_ = x->value_size - static_cast<std::uint32_t>(x->first.size());
  xattr_next_ = r.key.offset + 1;
}

void Mender::end_xattr() {
  if (xattr_left_ != 0) {
    drop_.insert(xattr_keys_.begin(), xattr_keys_.end());
    c_.lost(fmt::format("{}: an extended attribute is lost", at(now_.inode)));
  }
  xattr_left_ = 0;
}

void Mender::take_inline(WalkedRecord const& r) {
  bool const usable =
      r.key.offset == 0 && (now_.flags & kHas) != 0 && (S_ISREG(now_.mode) || S_ISLNK(now_.mode));
  bool const fits =
      usable && (S_ISLNK(now_.mode)
                     ? !r.value.empty() && r.value.size() <= kMaxSymlink &&
                           std::find(r.value.begin(), r.value.end(), std::byte{0}) == r.value.end()
                     : now_.size <= kInlineMax && now_.size > 0 && !r.value.empty());
  if (!fits) {
    drop_.insert(r.key);
    if (usable) now_.flags |= kLost;
    return;
  }
  now_.flags |= kInlineData;
  now_.inline_size = static_cast<std::uint32_t>(r.value.size());
  if (S_ISLNK(now_.mode))
    now_.size = r.value.size();
  else if (r.value.size() > now_.size)
    put_[r.key] = text_of(r.value.first(now_.size));
}

void Mender::take_extent(WalkedRecord const& r) {
  auto const e = parse_extent(r.key, r.value, c_.total_blocks);
  if ((now_.flags & kHas) != 0 && !S_ISREG(now_.mode)) {
    drop_.insert(r.key);
    return;
  }
  if (!e || r.key.offset < now_.extent_end) {
    drop_.insert(r.key);
    now_.flags |= kLost;
    return;
  }
  now_.extent_end = r.key.offset + std::uint64_t{e->count} * kBlockSize;
  now_.found += e->count;
}

void Mender::close() {
  if (now_.inode == 0) return;
  end_xattr();
  if ((now_.flags & kInlineData) != 0 &&
      now_.found != 0) {  // never both: the data has moved to extents, or some is lost
    drop_.insert({now_.inode, kInline, 0});
    put_.erase({now_.inode, kInline, 0});
    if (now_.found != now_.blocks) now_.flags |= kLost;
  }
  nodes_.push_back(now_);
}

void Mender::name(WalkedRecord const& r) {
  if (auto const parting = parting_.find(r.key); parting != parting_.end()) {
    auto const d = parse_dirent(r.key, r.value);
    if (!d) return;
    auto const up = at(r.key.inode);
    c_.lost(fmt::format("{}/{}: removed, because {}", up == "/" ? "" : up, d->name,
                        gone_.at(parting->second)));
    told_.insert(parting->second);
    return;
  }
  auto const it = wanted_.find(r.key);
  if (it == wanted_.end()) return;
  auto const& w = it->second;
  std::string name;
  if (r.key.kind == kParent) {
    if (auto const p = parse_parent(r.key, r.value)) name = p->name;
  } else if (auto const d = parse_dirent(r.key, r.value)) {
    name = d->name;
  }
  if (!name.empty()) (w.entry ? pending_ : back_pending_).push_back({w.child, w.directory, name});
}

std::optional<Bytes> Mender::mend(WalkedRecord const& r) {
  if (drop_.contains(r.key)) return std::nullopt;
  if (r.key.inode == 0) return r.value;
  auto const* n = find(r.key.inode);
  if (n == nullptr || (n->flags & kDrop) != 0) return std::nullopt;
  // A directory that is made again keeps only the records of its structure.
  if ((n->flags & kMade) != 0 &&
      (r.key.kind == kInode || r.key.kind == kInline || r.key.kind == kExtent))
    return std::nullopt;
  if (r.key.kind != kInode) return r.value;
  auto info = parse_inode(r.key, r.value);
  if (!info) return std::nullopt;
  auto const before = *info;
  info->nlink = n->nlink;
  info->size = n->size;
  info->blocks = S_ISREG(info->mode) ? n->found : 0;
  if (*info == before) return r.value;
  inode_bytes_ = encode_inode(*info);
  return Bytes(inode_bytes_);
}

void Mender::add_keeper(std::uint64_t inode, std::vector<ExtentInfo> const& extents) {
  InodeInfo info;
  info.mode = S_IFREG | 0600;
  info.atime = info.mtime = info.ctime = info.btime = c_.now;
  std::uint64_t offset = 0;
  for (auto const& e : extents) {
    std::vector<std::byte> value;
    encode_extent(e, value);
    put_[{inode, kExtent, offset}] = text_of(value);
    offset += std::uint64_t{e.count} * kBlockSize;
    info.blocks += e.count;
  }
  info.size = offset;
  put_[{inode, kInode, 0}] = text_of(encode_inode(info));
  put_[{0, kOrphan, inode}] = "";
}

}  // namespace lcfs::fsck
