// SPDX-License-Identifier: Apache-2.0
// Records of a layer's tree: inodes, directory entries, back references, extended attributes and
// extents.
#include <fmt/format.h>
#include <sys/stat.h>

#include "format/record_checks.h"
#include "format/records.h"

namespace lcfs::format {

namespace {

Status check_mode(InodeRecord const& r) {
  constexpr auto kAt = offsetof(InodeRecord, mode);
  auto const mode = r.mode.get();
  if ((mode & ~std::uint32_t{S_IFMT | 07777}) != 0)
    return corrupt_at(kAt, fmt::format("mode {:#o} has unknown bits", mode));
  switch (mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK: return {};
    default: return corrupt_at(kAt, fmt::format("mode {:#o} has no known type", mode));
  }
}

// What size, blocks, rdev and nlink may be depends on the type.
Status check_by_type(InodeRecord const& r) {
  auto const type = r.mode.get() & S_IFMT;
  auto const size = r.size.get();
  std::uint64_t least = 0, most = 0;
  if (type == S_IFREG || type == S_IFDIR) most = kMaxFileSize;
  if (type == S_IFLNK) least = 1, most = kMaxSymlink;
  if (size < least || size > most)
    return corrupt_at(offsetof(InodeRecord, size),
                      fmt::format("size {} not in {}..{}", size, least, most));
  if (r.blocks.get() > (type == S_IFREG ? kMaxStoreBlocks : 0))
    return corrupt_at(offsetof(InodeRecord, blocks),
                      fmt::format("blocks {} with mode {:#o}", r.blocks.get(), r.mode.get()));
  if (type != S_IFCHR && type != S_IFBLK && r.rdev.get() != 0)
    return corrupt_at(offsetof(InodeRecord, rdev),
                      fmt::format("rdev {:#x} with mode {:#o}", r.rdev.get(), r.mode.get()));
  if (type == S_IFDIR && r.nlink.get() == 1)
    return corrupt_at(offsetof(InodeRecord, nlink), "directory with nlink 1");
  return {};
}

Status check_nsec(le32 const& nsec, char const* what, std::size_t at) {
  if (nsec.get() >= kNsecEnd)
    return corrupt_at(at, fmt::format("{} {} not below {}", what, nsec.get(), kNsecEnd));
  return {};
}

}  // namespace

Result<InodeInfo> parse_inode(Key const& key, Bytes value) {
  if (key.inode == 0 || key.kind != kInode || key.offset != 0) return bad_key("inode record", key);
  LCFS_TRY_ASSIGN(auto const r, fixed_part<InodeRecord>("inode record", value));
  LCFS_TRY(check_size("inode record", value, sizeof r));
  LCFS_TRY(check_mode(r));
  LCFS_TRY(check_by_type(r));
  LCFS_TRY(check_nsec(r.atime_nsec, "atime_nsec", offsetof(InodeRecord, atime_nsec)));
  LCFS_TRY(check_nsec(r.mtime_nsec, "mtime_nsec", offsetof(InodeRecord, mtime_nsec)));
  LCFS_TRY(check_nsec(r.ctime_nsec, "ctime_nsec", offsetof(InodeRecord, ctime_nsec)));
  LCFS_TRY(check_nsec(r.btime_nsec, "btime_nsec", offsetof(InodeRecord, btime_nsec)));
  if (r.flags.get() != 0)
    return corrupt_at(offsetof(InodeRecord, flags),
                      fmt::format("flags {:#x}, not zero", r.flags.get()));
  if (r.reserved0.get() != 0)
    return corrupt_at(offsetof(InodeRecord, reserved0),
                      fmt::format("reserved0 {:#x}, not zero", r.reserved0.get()));
  return InodeInfo{.mode = r.mode.get(),
                   .nlink = r.nlink.get(),
                   .uid = r.uid.get(),
                   .gid = r.gid.get(),
                   .size = r.size.get(),
                   .blocks = r.blocks.get(),
                   .rdev = r.rdev.get(),
                   .atime = {r.atime_sec.get(), r.atime_nsec.get()},
                   .mtime = {r.mtime_sec.get(), r.mtime_nsec.get()},
                   .ctime = {r.ctime_sec.get(), r.ctime_nsec.get()},
                   .btime = {r.btime_sec.get(), r.btime_nsec.get()}};
}

std::array<std::byte, sizeof(InodeRecord)> encode_inode(InodeInfo const& info) {
  InodeRecord r{};
  r.mode.set(info.mode);
  r.nlink.set(info.nlink);
  r.uid.set(info.uid);
  r.gid.set(info.gid);
  r.size.set(info.size);
  r.blocks.set(info.blocks);
  r.rdev.set(info.rdev);
  r.atime_sec.set(info.atime.sec);
  r.mtime_sec.set(info.mtime.sec);
  r.ctime_sec.set(info.ctime.sec);
  r.btime_sec.set(info.btime.sec);
  r.atime_nsec.set(info.atime.nsec);
  r.mtime_nsec.set(info.mtime.nsec);
  r.ctime_nsec.set(info.ctime.nsec);
  r.btime_nsec.set(info.btime.nsec);
  std::array<std::byte, sizeof(InodeRecord)> out{};
  std::memcpy(out.data(), &r, sizeof r);
  return out;
}

Result<DirentInfo> parse_dirent(Key const& key, Bytes value) {
  if (key.inode == 0 || key.kind != kDirent || !is_name_key(key.offset))
    return bad_key("directory entry", key);
  LCFS_TRY_ASSIGN(auto const r, fixed_part<DirentRecord>("directory entry", value));
  if (r.inode.get() == 0) return corrupt_at(offsetof(DirentRecord, inode), "entry of inode 0");
  switch (r.type) {
    case S_IFREG >> 12:
    case S_IFDIR >> 12:
    case S_IFLNK >> 12:
    case S_IFCHR >> 12:
    case S_IFBLK >> 12:
    case S_IFIFO >> 12:
    case S_IFSOCK >> 12: break;
    default:
      return corrupt_at(offsetof(DirentRecord, type), fmt::format("unknown entry type {}", r.type));
  }
  if (r.name_size == 0) return corrupt_at(offsetof(DirentRecord, name_size), "empty entry name");
  LCFS_TRY(check_size("directory entry", value, sizeof r + r.name_size));
  auto const name = text_of(value, sizeof r);
  LCFS_TRY(check_component("entry name", name, sizeof r));
  return DirentInfo{r.inode.get(), r.type, name};
}

std::string encode_dirent(DirentInfo const& info) {
  DirentRecord r{};
  r.inode.set(info.inode);
  r.type = info.type;
  r.name_size = static_cast<std::uint8_t>(info.name.size());
  return with_tail(r, info.name.substr(0, r.name_size));
}

Result<ParentInfo> parse_parent(Key const& key, Bytes value) {
  if (key.inode == 0 || key.kind != kParent || !is_name_key(key.offset))
    return bad_key("back reference", key);
  LCFS_TRY_ASSIGN(auto const r, fixed_part<ParentRecord>("back reference", value));
  if (r.directory.get() == 0)
    return corrupt_at(offsetof(ParentRecord, directory), "back reference to inode 0");
  if (r.name_size == 0)
    return corrupt_at(offsetof(ParentRecord, name_size), "empty back reference name");
  LCFS_TRY(check_size("back reference", value, sizeof r + r.name_size));
  auto const name = text_of(value, sizeof r);
  LCFS_TRY(check_component("back reference name", name, sizeof r));
  return ParentInfo{r.directory.get(), name};
}

std::string encode_parent(ParentInfo const& info) {
  ParentRecord r{};
  r.directory.set(info.directory);
  r.name_size = static_cast<std::uint8_t>(info.name.size());
  return with_tail(r, info.name.substr(0, r.name_size));
}

Result<XattrInfo> parse_xattr(Key const& key, Bytes value) {
  // The low 8 bits of the key number the chunks; only chunk 0 has a header.
  if (key.inode == 0 || key.kind != kXattr || (key.offset & (kXattrProbeStep - 1)) != 0 ||
      key.offset >= kNameKeyEnd)
    return bad_key("extended attribute", key);
  LCFS_TRY_ASSIGN(auto const r, fixed_part<XattrRecord>("extended attribute", value));
  if (r.name_size == 0) return corrupt_at(offsetof(XattrRecord, name_size), "empty attribute name");
  if (r.reserved0 != 0)
    return corrupt_at(offsetof(XattrRecord, reserved0),
                      fmt::format("reserved0 {:#x}, not zero", r.reserved0));
  auto const value_size = r.value_size.get();
  if (value_size > kMaxXattr)
    return corrupt_at(
        offsetof(XattrRecord, value_size),
        fmt::format("attribute value of {} bytes, more than {}", value_size, kMaxXattr));
  LCFS_TRY(check_size("extended attribute", value,
                      sizeof r + r.name_size + std::min(value_size, kXattrChunk)));
  auto const name = text_of(value, sizeof r).substr(0, r.name_size);
  LCFS_TRY(check_no_nul("attribute name", name, sizeof r));
  return XattrInfo{name, value_size, value.subspan(sizeof r + r.name_size)};
}

std::string encode_xattr(XattrInfo const& info) {
  XattrRecord r{};
  r.name_size = static_cast<std::uint8_t>(info.name.size());
  r.value_size.set(info.value_size);
  auto out = with_tail(r, info.name.substr(0, r.name_size));
  auto const first = info.first.first(std::min<std::size_t>(info.first.size(), kXattrChunk));
  out.append(reinterpret_cast<char const*>(first.data()), first.size());
  return out;
}

Result<ExtentInfo> extent_at(Key const& key, Bytes value, std::uint64_t total_blocks,
                             std::uint64_t end) {
  LCFS_TRY_ASSIGN(auto const r, fixed_part<ExtentRecord>("extent", value));
  auto const count = r.count.get();
  auto const block = r.block.get();
  if (count == 0 || count > kMaxExtentBlocks || count > (end - key.offset) / kBlockSize)
    return corrupt_at(offsetof(ExtentRecord, count),
                      fmt::format("invalid extent: {} blocks at {:#x}", count, key.offset));
  if (block < kReservedBlocks || block > total_blocks || count > total_blocks - block)
    return corrupt_at(offsetof(ExtentRecord, block),
                      fmt::format("extent of blocks {}+{} outside the store", block, count));
  if (r.owner.get() == 0)
    return corrupt_at(offsetof(ExtentRecord, owner), "extent owned by layer 0");
  LCFS_TRY(check_size("extent", value, sizeof r + std::size_t{count} * sizeof(le32)));
  return ExtentInfo{
      block, r.owner.get(), count, {reinterpret_cast<le32 const*>(value.data() + sizeof r), count}};
}

Result<ExtentInfo> parse_extent(Key const& key, Bytes value, std::uint64_t total_blocks) {
  if (key.inode == 0 || key.kind != kExtent || key.offset % kBlockSize != 0 ||
      key.offset >= kMaxFileSize)
    return bad_key("extent", key);
  return extent_at(key, value, total_blocks, kMaxFileSize);
}

void encode_extent(ExtentInfo const& info, std::vector<std::byte>& into) {
  ExtentRecord r{};
  r.block.set(info.block);
  r.owner.set(info.owner);
  r.count.set(info.count);
  auto const sums = std::as_bytes(info.checksums.first(info.count));
  into.resize(sizeof r + sums.size());
  std::memcpy(into.data(), &r, sizeof r);
  if (!sums.empty()) std::memcpy(into.data() + sizeof r, sums.data(), sums.size());
}

}  // namespace lcfs::format
