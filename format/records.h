// SPDX-License-Identifier: Apache-2.0
// The records inside leaves: one checked parser and one encoder each.
// A parser takes the record's key and value as found and checks everything in them: sizes,
// enumerations, ranges (blocks below total_blocks, nanoseconds below 10^9), reserved bytes
// zero.  Errors are kCorrupt with the offset in the value.  string_views and spans point into the
// value given: they live as long as it does.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "format/layout.h"

namespace lcfs::format {

using Bytes = std::span<std::byte const>;

struct Timestamp {
  std::int64_t sec = 0;
  std::uint32_t nsec = 0;  // 0..999999999
  friend auto operator<=>(Timestamp const&, Timestamp const&) = default;
};

struct InodeInfo {
  std::uint32_t mode = 0, nlink = 0, uid = 0, gid = 0;
  std::uint64_t size = 0;
  std::uint64_t blocks = 0;
  std::uint64_t rdev = 0;  // major << 32 | minor
  Timestamp atime{}, mtime{}, ctime{}, btime{};
  friend bool operator==(InodeInfo const&, InodeInfo const&) = default;
};
Result<InodeInfo> parse_inode(Key const& key, Bytes value);
std::array<std::byte, sizeof(InodeRecord)> encode_inode(InodeInfo const& info);

struct DirentInfo {
  std::uint64_t inode = 0;
  std::uint8_t type = 0;  // DT_*
  std::string_view name{};
};
Result<DirentInfo> parse_dirent(Key const& key,
                                Bytes value);  // refuses "", ".", "..", '/' and NUL in names
std::string encode_dirent(DirentInfo const& info);

struct ParentInfo {
  std::uint64_t directory = 0;
  std::string_view name{};
};
Result<ParentInfo> parse_parent(Key const& key, Bytes value);
std::string encode_parent(ParentInfo const& info);

struct XattrInfo {  // chunk 0 only
  std::string_view name{};
  std::uint32_t value_size = 0;  // of the whole value
  Bytes first{};                 // its first min(value_size, kXattrChunk) bytes
};
Result<XattrInfo> parse_xattr(Key const& key, Bytes value);
std::string encode_xattr(XattrInfo const& info);

struct ExtentInfo {
  std::uint64_t block = 0;
  std::uint64_t owner = 0;
  std::uint32_t count = 0;
  std::span<le32 const> checksums{};  // count of them
};
Result<ExtentInfo> parse_extent(Key const& key, Bytes value, std::uint64_t total_blocks);
// info.checksums must hold info.count entries.
void encode_extent(ExtentInfo const& info, std::vector<std::byte>& into);  // replaces the contents

struct LayerInfo {
  std::uint64_t id = 0;  // the key's inode
  std::uint64_t parent = 0;
  LayerState state = LayerState::kOpen;
  bool has_digests = false;
  bool anonymous = false;  // its record holds no name; `name` is then "@" and its id, which no
                           // other layer can have
  NodePtr root{};
  std::uint64_t root_inode = 0;
  std::uint64_t own_blocks = 0;
  std::uint64_t used_blocks = 0;
  std::uint64_t inodes = 0;
  std::uint64_t children = 0;
  std::uint64_t images = 0;
  std::int64_t created_ns = 0;
  std::int64_t frozen_ns = 0;
  std::uint64_t diff_bytes = 0;
  Digest diff_id{};
  Digest chain_id{};
  // The number it is served under: FUSE node ids and file handles are made of it.
  std::uint64_t serve_id = 0;
  std::uint64_t quota_blocks = 0;     // 0: none
  std::uint64_t skeleton_blocks = 0;  // of own_blocks; used_blocks does not count them
  std::string name{};
};
Result<LayerInfo> parse_layer(Key const& key, Bytes value, std::uint64_t total_blocks);
std::string encode_layer(LayerInfo const& info);

struct RunInfo {
  std::uint64_t layer = 0;
  std::uint64_t start = 0;
  std::uint64_t count = 0;
};
Result<RunInfo> parse_run(Key const& key, Bytes value, std::uint64_t total_blocks);
std::string encode_run(RunInfo const& info);

// How the imported blob of a layer was compressed, as far as needed to reproduce it.
struct BlobInfo {
  Digest digest{};
  std::uint64_t size = 0;
  BlobCompression compression = BlobCompression::kNone;
  std::uint32_t probe_checksum = 0;  // crc32c of the first min(size, kBlobProbe) bytes
  std::string head{};                // the first min(size, kBlobHead) bytes
};

struct SkeletonInfo {
  std::uint64_t layer = 0;
  std::uint64_t size = 0;
  std::uint64_t first_inode = 0;
  BlobInfo blob{};
};
Result<SkeletonInfo> parse_skeleton(Key const& key, Bytes value);
std::string encode_skeleton(SkeletonInfo const& info);
// key.offset is a place in the stream, below kMaxSkeleton; the owner is the layer itself.
// encode_extent() writes one.
Result<ExtentInfo> parse_skeleton_extent(Key const& key, Bytes value, std::uint64_t total_blocks);

struct ImageInfo {
  std::uint64_t id = 0;  // the key's inode
  Digest config_digest{}, manifest_digest{};
  std::uint64_t top_layer = 0;
  std::uint32_t layer_count = 0, name_count = 0;
  std::uint32_t config_size = 0, manifest_size = 0, index_size = 0;
  std::int64_t imported_ns = 0;
};
Result<ImageInfo> parse_image(Key const& key, Bytes value);
std::string encode_image(ImageInfo const& info);

struct NameInfo {
  std::uint64_t id = 0;
  NameType type = NameType::kLayer;
  std::string_view name{};
};
Result<NameInfo> parse_name(Key const& key, Bytes value);
std::string encode_name(NameInfo const& info);

struct DigestInfo {
  Digest digest{};
  std::uint64_t id = 0;
  NameType type = NameType::kLayer;
};
Result<DigestInfo> parse_digest(Key const& key, Bytes value);
std::string encode_digest(DigestInfo const& info);

// A restore point: the fields that its superblock had.
struct KeptCheckpoint {
  std::uint64_t generation = 0;  // the key's offset
  NodePtr root{};                // block 0: an empty store
  std::int64_t written_ns = 0;
  std::uint64_t store_tree_blocks = 0, layer_blocks = 0, layer_count = 0, image_count = 0;
  std::string text{};  // what came after it
};
Result<KeptCheckpoint> parse_checkpoint(Key const& key, Bytes value, std::uint64_t total_blocks);
std::string encode_checkpoint(KeptCheckpoint const& info);  // cuts the text to kMaxKeptText bytes

Result<Digest> parse_tree_digest(Key const& key, Bytes value);
std::string encode_tree_digest(Digest const& digest);

// "sha256:" and 64 hex digits, and back.
std::string digest_text(Digest const& digest);
std::string digest_hex(Digest const& digest);
Result<Digest> parse_digest_text(std::string_view text);  // with or without "sha256:"

}  // namespace lcfs::format
