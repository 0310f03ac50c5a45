// SPDX-License-Identifier: Apache-2.0
#include "fsck/inode_check.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "format/hash.h"

namespace lcfs::fsck {
namespace {

constexpr std::uint64_t kHashBits = ~(kProbes - 1);
constexpr std::uint64_t kXattrHashBits = ~std::uint64_t{0xffff};

bool all_zero(Bytes bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

bool InodeCheck::Group::add(std::uint64_t key_base, std::string name) {
  if (key_base != base) {
    base = key_base;
    names.clear();
  }
  if (std::find(names.begin(), names.end(), name) != names.end()) return false;
  names.push_back(std::move(name));
  return true;
}

void InodeCheck::say(Code code, std::uint64_t at, std::string text, Severity severity) {
  hooks_.say(code, severity, now_.inode, at, std::move(text));
}

void InodeCheck::bad(WalkedRecord const& r, Error const& error) {
  say(Code::kRecord, r.at + (error.offset == kNoOffset ? 0 : error.offset), error.message);
}

bool InodeCheck::is(std::uint32_t type) const {
  return !now_.has_record || now_.broken || (now_.info.mode & S_IFMT) == type;
}

bool InodeCheck::unique(WalkedRecord const& r, std::uint64_t base, std::string name) {
  if (now_.group_kind != r.key.kind) now_.group = {};
  now_.group_kind = r.key.kind;
  return now_.group.add(base, std::move(name));
}

void InodeCheck::take(WalkedRecord const& r) {
  if (r.key.inode != now_.inode) {
    if (r.after_gap) gap();
    close();
    now_ = {};
    now_.inode = r.key.inode;
    now_.at = r.at;
    now_.gap = r.after_gap;
    last_inode_ = std::max(last_inode_, r.key.inode);
  }
  now_.gap = now_.gap || r.after_gap;
  if (now_.xattr_left != 0 && r.key.kind != kXattr) end_xattr();
  switch (r.key.kind) {
    case kInode: return take_inode(r);
    case kParent: return take_parent(r);
    case kDirent: return take_entry(r);
    case kXattr: return take_xattr(r);
    case kInline: return take_inline(r);
    case kExtent: return take_extent(r);
    default: say(Code::kRecord, r.at, fmt::format("record of unknown kind {:#04x}", r.key.kind));
  }
}

void InodeCheck::take_inode(WalkedRecord const& r) {
  if (now_.has_record) return say(Code::kRecord, r.at, "second inode record");
  now_.has_record = true;
  ++inodes_;
  auto info = parse_inode(r.key, r.value);
  if (!info) {
    now_.broken = true;
    return bad(r, info.error());
  }
  now_.info = *info;
  links_.add_inode({r.key.inode, r.at, info->size, info->nlink, info->mode});
}

void InodeCheck::take_parent(WalkedRecord const& r) {
  auto const parent = parse_parent(r.key, r.value);
  if (!parent) return bad(r, parent.error());
  if ((r.key.offset & kHashBits) != parent_key(seed_, parent->directory, parent->name))
    say(Code::kHash, r.at,
        fmt::format("back reference \"{}\" at the key of another one", parent->name));
  if (!unique(r, r.key.offset & kHashBits, fmt::format("{}/{}", parent->directory, parent->name)))
    return say(Code::kHash, r.at, fmt::format("duplicate back reference \"{}\"", parent->name));
  links_.add_parent(r.key.inode, parent->directory, parent->name, r.key.offset);
}

void InodeCheck::take_entry(WalkedRecord const& r) {
  ++now_.entries;
  if (!is(S_IFDIR))
    say(Code::kInode, r.at, fmt::format("directory entry in mode {:#o}", now_.info.mode));
  auto const entry = parse_dirent(r.key, r.value);
  if (!entry) return bad(r, entry.error());
  if (entry->type == S_IFDIR >> 12) ++now_.subdirectories;
  if ((r.key.offset & kHashBits) != name_key(seed_, entry->name))
    say(Code::kHash, r.at, fmt::format("entry \"{}\" at the key of another name", entry->name));
  if (!unique(r, r.key.offset & kHashBits, std::string(entry->name)))
    say(Code::kHash, r.at, fmt::format("duplicate entry \"{}\"", entry->name));
  links_.add_entry(r.key.inode, entry->inode, entry->type, entry->name, r.key.offset);
}

void InodeCheck::take_xattr(WalkedRecord const& r) {
  if ((r.key.offset & (kXattrProbeStep - 1)) != 0) {
    auto const due = std::min(now_.xattr_left, kXattrChunk);
    if (due == 0 || r.key.offset != now_.xattr_next || r.value.size() != due) {
      if (!now_.gap)
        say(Code::kXattr, r.at,
            fmt::format("part of an attribute has {} bytes, expected {}", r.value.size(), due));
      now_.xattr_left = 0;
      return;
    }
    now_.xattr_left -= due;
    ++now_.xattr_next;
    return;
  }
  if (now_.xattr_left != 0) end_xattr();
  auto const xattr = parse_xattr(r.key, r.value);
  if (!xattr) return bad(r, xattr.error());
  if ((r.key.offset & kXattrHashBits) != xattr_key(seed_, xattr->name))
    say(Code::kHash, r.at, fmt::format("attribute \"{}\" at the key of another name", xattr->name));
  if (!unique(r, r.key.offset & kXattrHashBits, std::string(xattr->name)))
    say(Code::kHash, r.at, fmt::format("duplicate attribute \"{}\"", xattr->name));
  now_.xattr_left = xattr->value_size - static_cast<std::uint32_t>(xattr->first.size());
  now_.xattr_next = r.key.offset + 1;
  now_.xattr_at = r.at;
}

void InodeCheck::end_xattr() {
  if (now_.xattr_left != 0 && !now_.gap)
    say(Code::kXattr, now_.xattr_at,
        fmt::format("attribute lacks its last {} bytes", now_.xattr_left));
  now_.xattr_left = 0;
}

void InodeCheck::take_inline(WalkedRecord const& r) {
  if (r.key.offset != 0)
    return say(Code::kRecord, r.at, fmt::format("inline data at key offset {:#x}", r.key.offset));
  now_.has_inline = true;
  now_.inline_at = r.at;
  if (!now_.has_record || now_.broken) return;
  auto const size = now_.info.size;
  if (is(S_IFLNK)) {
    if (r.value.size() != size)
      say(Code::kContent, r.at,
          fmt::format("symlink target of {} bytes, but the size is {}", r.value.size(), size));
    if (std::find(r.value.begin(), r.value.end(), std::byte{0}) != r.value.end())
      say(Code::kContent, r.at, "symlink target contains a NUL byte");
    return;
  }
  if (!is(S_IFREG))
    return say(Code::kInode, r.at, fmt::format("inline data in mode {:#o}", now_.info.mode));
  if (size > kInlineMax)
    return say(Code::kContent, r.at,
               fmt::format("inline data in a file of {} bytes, more than {}", size, kInlineMax));
  if (r.value.empty() || r.value.size() > size)
    return say(Code::kContent, r.at,
               fmt::format("inline data of {} bytes in a file of {}", r.value.size(), size));
  if (all_zero(r.value)) say(Code::kContent, r.at, "inline data is all zero", Severity::kNote);
}

void InodeCheck::take_extent(WalkedRecord const& r) {
  if (!is(S_IFREG)) say(Code::kInode, r.at, fmt::format("extent in mode {:#o}", now_.info.mode));
  auto const extent = parse_extent(r.key, r.value, total_blocks_);
  if (!extent) {
    now_.gap = true;  // its blocks are unknown, so the sum cannot be checked
    return bad(r, extent.error());
  }
  if (now_.has_inline && now_.extent_blocks == 0)
    say(Code::kContent, r.at, "file has both inline data and extents");
  if (r.key.offset < now_.extent_end)
    say(Code::kContent, r.at,
        fmt::format("extent at {:#x} overlaps the one before it, which ends at {:#x}", r.key.offset,
                    now_.extent_end));
  now_.extent_end =
      std::max(now_.extent_end, r.key.offset + std::uint64_t{extent->count} * kBlockSize);
  now_.extent_blocks += extent->count;
  hooks_.on_extent(r, *extent);
}

void InodeCheck::close() {
  if (now_.inode == 0) return;
  end_xattr();
  if (now_.gap || now_.broken) return;
  if (!now_.has_record)
    return say(Code::kInode, now_.at, "records of an inode without an inode record");
  auto const& info = now_.info;
  if (info.blocks != now_.extent_blocks)
    say(Code::kCounter, now_.at + offsetof(InodeRecord, blocks),
        fmt::format("blocks {}, but its extents have {}", info.blocks, now_.extent_blocks));
  if (S_ISLNK(info.mode) && !now_.has_inline)
    say(Code::kContent, now_.at, "symlink without a target");
  if (!S_ISDIR(info.mode)) return;
  if (info.size != now_.entries)
    say(Code::kCounter, now_.at + offsetof(InodeRecord, size),
        fmt::format("directory of size {}, but it has {} entries", info.size, now_.entries));
  if (info.nlink != 0 && info.nlink != 2 + now_.subdirectories)
    say(Code::kLink, now_.at + offsetof(InodeRecord, nlink),
        fmt::format("directory with nlink {}, but it has {} subdirectories", info.nlink,
                    now_.subdirectories));
}

void InodeCheck::finish() {
  close();
  now_ = {};
}

}  // namespace lcfs::fsck
