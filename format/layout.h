// SPDX-License-Identifier: Apache-2.0
// What the bytes of a store mean: every structure that lcfs writes, with its offsets.
// Specification: doc/format.md.  Change both or neither.  Pure: no I/O, no allocation, no engine.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/endian.h"

namespace lcfs::format {

// Units -------------------------------------------------------------------------------------------

inline constexpr unsigned kBlockBits = 12;
// Bytes; the grain of space and of data checksums.
inline constexpr std::uint32_t kBlockSize = 1u << kBlockBits;
inline constexpr unsigned kNodeBits = 14;
inline constexpr std::uint32_t kNodeSize = 1u << kNodeBits;  // bytes of a tree node
inline constexpr std::uint32_t kNodeBlocks = kNodeSize / kBlockSize;

// [0, 64 KiB): the two superblock slots, rest zero.
inline constexpr std::uint64_t kReservedBlocks = 16;
inline constexpr std::array<std::uint64_t, 2> kSlotBlock{0, 8};  // blocks of the slots
// 16 MiB: below it a checkpoint may not find room.
inline constexpr std::uint64_t kMinStoreBlocks = 4096;
// 64 PiB: products with the block size stay in 64 bits.
inline constexpr std::uint64_t kMaxStoreBlocks = 1ull << 44;

inline constexpr std::uint32_t kMaxValue = 4096;  // bytes of one record's value in a leaf
// File data up to this size may be stored in the leaf.
inline constexpr std::uint32_t kInlineMax = 2048;
inline constexpr std::uint32_t kMaxSymlink = 4095;
inline constexpr std::uint32_t kMaxName = 255;          // bytes of a directory entry or xattr name
inline constexpr std::uint32_t kMaxXattr = 65536;       // bytes of one xattr value
inline constexpr std::uint32_t kXattrChunk = 3072;      // value bytes held by one xattr record
inline constexpr std::uint32_t kMaxExtentBlocks = 256;  // blocks of one extent record (1 MiB)
inline constexpr std::uint64_t kMaxFileSize = 1ull << 62;
inline constexpr std::uint32_t kMaxLayerName = 255;
inline constexpr std::uint32_t kMaxImageName = 1023;
inline constexpr std::uint32_t kBlobChunk = 3584;    // bytes of a raw document held by one record
inline constexpr std::uint32_t kMaxKept = 64;        // restore points of a store
inline constexpr std::uint32_t kMaxKeptText = 1024;  // bytes of the text of one
inline constexpr unsigned kMaxLevel = 12;            // a root above it is damage: 200^12 > 2^64

inline constexpr std::uint32_t kFormatVersion = 1;

// Feature words -----------------------------------------------------------------------------------

// A bit is never reused.  An unknown bit in compat is ignored; in ro_compat it makes the store
// read-only; in incompat it makes opening fail.
inline constexpr std::uint64_t kKnownCompat = 0;
inline constexpr std::uint64_t kKnownRoCompat = 0;
inline constexpr std::uint64_t kKnownIncompat = 0;

// Pointers ----------------------------------------------------------------------------------------

// Pointer to a node.  block == 0 means "no node" (an empty tree).
struct NodePtr {
  le64 block;       // 0x00  first block; a node fills kNodeBlocks blocks
  le64 generation;  // 0x08  of the node it points to
  le32 checksum;    // 0x10  NodeHeader::checksum of the node it points to
  friend bool operator==(NodePtr const&, NodePtr const&) = default;
};
static_assert(sizeof(NodePtr) == 0x14 && alignof(NodePtr) == 1);

// Blocks that a checkpoint wrote and did not flush before its superblock.
struct WrittenRun {
  le64 block;     // 0x00
  le32 count;     // 0x08  blocks, 1..kNodeBlocks
  le32 checksum;  // 0x0c  crc32c of them all
  friend bool operator==(WrittenRun const&, WrittenRun const&) = default;
};
static_assert(sizeof(WrittenRun) == 0x10 && alignof(WrittenRun) == 1);

// The superblock.  It fills one block.  It is one sector, and so written whole or not at all;
// `written` runs follow it.
struct Superblock {
  std::array<std::uint8_t, 8> magic;       // 0x000  kSuperMagic
  le32 checksum;                           // 0x008  crc32c of [0x00c, superblock_size)
  le16 superblock_size;                    // 0x00c  bytes in use, 0x200..0x1000; grows only
  std::uint8_t block_bits;                 // 0x00e  12
  std::uint8_t node_bits;                  // 0x00f  14
  le32 version;                            // 0x010  1
  le32 slot;                               // 0x014  0 or 1: which of the two slots this is
  le64 compat;                             // 0x018
  le64 ro_compat;                          // 0x020
  le64 incompat;                           // 0x028
  std::array<std::uint8_t, 16> uuid;       // 0x030  RFC 4122 byte order
  std::array<std::uint8_t, 16> hash_seed;  // 0x040  SipHash-2-4 key of all name hashes
  std::array<std::uint8_t, 64> label;      // 0x050  UTF-8, zero padded; may fill all 64
  le64 generation;         // 0x090  of the checkpoint, >= 1; the greater valid one is in force
  le64 total_blocks;       // 0x098  size of the store
  NodePtr store_root;      // 0x0a0  root of the store tree; block 0: nothing in it yet
  le32 keep;               // 0x0b4  checkpoints to keep, plus 1; 0: the writer's choice
  le64 next_id;            // 0x0b8  next layer or image id, >= 1; ids are never reused
  le64 next_inode;         // 0x0c0  next inode number, >= 1; numbers are never reused
  les64 created_ns;        // 0x0c8  nanoseconds since 1970, UTC
  les64 written_ns;        // 0x0d0  when this checkpoint was made
  le64 store_tree_blocks;  // 0x0d8  blocks of the store tree's nodes
  le64 layer_blocks;       // 0x0e0  sum of all space runs; free = total - 16 - store tree - this
  le64 layer_count;        // 0x0e8
  le64 image_count;        // 0x0f0
  le32 written_count;  // 0x0f8  runs at 0x200; this checkpoint counts only if the device has them
                       // all
  le32 written_checksum;                      // 0x0fc  crc32c of these runs; 0 if there are none
  std::array<std::uint8_t, 0x100> reserved1;  // 0x100  zero
};
inline constexpr std::array<std::uint8_t, 8> kSuperMagic{'L',  'C',  'F',  'S',
                                                         '\r', '\n', 0x1a, '\n'};
static_assert(std::is_trivially_copyable_v<Superblock> && alignof(Superblock) == 1);
static_assert(sizeof(Superblock) == 0x200);
static_assert(offsetof(Superblock, superblock_size) == 0x00c &&
              offsetof(Superblock, version) == 0x010);
static_assert(offsetof(Superblock, compat) == 0x018 && offsetof(Superblock, uuid) == 0x030);
static_assert(offsetof(Superblock, hash_seed) == 0x040 && offsetof(Superblock, label) == 0x050);
static_assert(offsetof(Superblock, generation) == 0x090 &&
              offsetof(Superblock, store_root) == 0x0a0);
static_assert(offsetof(Superblock, next_id) == 0x0b8 && offsetof(Superblock, created_ns) == 0x0c8);
static_assert(offsetof(Superblock, store_tree_blocks) == 0x0d8 &&
              offsetof(Superblock, written_count) == 0x0f8);
inline constexpr std::uint32_t kMaxWritten =
    (kBlockSize - sizeof(Superblock)) / sizeof(WrittenRun);  // 224

// Tree nodes --------------------------------------------------------------------------------------

// The key of every record.  Order: inode, then kind, then offset.
struct Key {
  // File trees: inode number, 0 for records of the layer; store tree: layer or image id.
  std::uint64_t inode = 0;
  std::uint8_t kind = 0;     // Kind
  std::uint64_t offset = 0;  // what it means depends on the kind
  friend auto operator<=>(Key const&, Key const&) = default;
};
inline constexpr Key kMaxKey{~0ull, 0xff, ~0ull};

enum Kind : std::uint8_t {
  // file trees
  kInode = 0x01,   // (inode, kInode, 0)                 InodeRecord
  kParent = 0x02,  // (inode, kParent, name key)         ParentRecord: one per directory entry that
                   // names the inode
  kDirent = 0x03,  // (directory, kDirent, name key)     DirentRecord; the key's offset is the
                   // readdir cookie
  kXattr = 0x04,   // (inode, kXattr, xattr key|chunk)   XattrRecord (chunk 0), only value bytes
                   // (chunks 1..)
  kInline =
      0x05,  // (inode, kInline, 0)                file data of a small file, or a symlink's target
  kExtent = 0x06,  // (inode, kExtent, byte offset)      ExtentRecord
  kOrphan = 0x07,  // (0, kOrphan, inode)                empty value: nlink is 0, removed when an
                   // open layer is used again
  // store tree (owner 0)
  kLayer = 0x20,      // (layer, kLayer, 0)              LayerRecord
  kRun = 0x21,        // (layer, kRun, first block)      RunRecord: blocks the layer owns
  kImage = 0x22,      // (image, kImage, 0)              ImageRecord
  kImageName = 0x23,  // (image, kImageName, name key)   the name's bytes
  kBlob =
      0x24,  // (image, kBlob, which << 32 | n) n-th kBlobChunk bytes of a raw document (BlobKind)
  kName = 0x25,    // (0, kName, name key)            NameRecord
  kDigest = 0x26,  // (0, kDigest, digest key)        DigestRecord
  kSkeleton =
      0x27,  // (layer, kSkeleton, 0)            SkeletonRecord: of the tar it was imported from
  kSkeletonExtent =
      0x28,  // (layer, kSkeletonExtent, offset) ExtentRecord: where that skeleton's bytes are
  kTreeDigest = 0x29,  // (layer, kTreeDigest, 0)          TreeDigestRecord of a frozen layer
  kCheckpoint = 0x2a,  // (0, kCheckpoint, generation)     CheckpointRecord: a restore point
};

using StoreId = std::array<std::uint8_t, 16>;
// Of it, what nodes had before 2026-11-26; then zeroes.
inline constexpr std::size_t kStoreIdBefore = 8;

struct NodeHeader {
  le32 magic;              // 0x00  kNodeMagic
  le32 checksum;           // 0x04  crc32c of [0x08, kNodeSize)
  le64 block;              // 0x08  its own first block
  le64 owner;              // 0x10  layer that allocated it; 0: the store tree
  le64 generation;         // 0x18  in which it was written
  std::uint8_t level;      // 0x20  0: leaf
  std::uint8_t reserved0;  // 0x21  zero
  le16 count;              // 0x22  slots or entries
  le16 heap;               // 0x24  leaf: offset of the lowest value byte; branch: 0
  le16 garbage;            // 0x26  leaf: bytes in [heap, kNodeSize) that no slot names; branch: 0
  StoreId store;           // 0x28  the superblock's uuid
  std::array<std::uint8_t, 8> reserved1;  // 0x38  zero
};
inline constexpr std::uint32_t kNodeMagic = 0x444e434c;  // "LCND"
static_assert(sizeof(NodeHeader) == 0x40 && alignof(NodeHeader) == 1);
static_assert(offsetof(NodeHeader, block) == 0x08 && offsetof(NodeHeader, level) == 0x20);
static_assert(offsetof(NodeHeader, count) == 0x22 && offsetof(NodeHeader, store) == 0x28);

// A leaf: header, slots in key order from 0x40 up, values from the end down, a gap between.
struct LeafSlot {
  le64 inode;              // 0x00
  le64 offset;             // 0x08
  std::uint8_t kind;       // 0x10
  std::uint8_t reserved0;  // 0x11  zero
  le16 value_offset;       // 0x12  from the start of the node
  le16 value_size;         // 0x14  0..kMaxValue
};
static_assert(sizeof(LeafSlot) == 0x16 && alignof(LeafSlot) == 1);

// A branch: header, entries in key order from 0x40 up.  Child i holds keys in [key i, key i+1).
struct BranchEntry {
  le64 inode;                             // 0x00
  le64 offset;                            // 0x08
  std::uint8_t kind;                      // 0x10
  std::array<std::uint8_t, 3> reserved0;  // 0x11  zero
  NodePtr child;                          // 0x14
};
static_assert(sizeof(BranchEntry) == 0x28 && alignof(BranchEntry) == 1);

inline constexpr std::uint32_t kLeafRoom = kNodeSize - sizeof(NodeHeader);
inline constexpr std::uint32_t kBranchMax = kLeafRoom / sizeof(BranchEntry);  // 408
static_assert(kLeafRoom / (sizeof(LeafSlot) + kMaxValue) >= 3, "a leaf can always be split in two");

// Records of a layer's file tree ------------------------------------------------------------------

struct InodeRecord {
  le32 mode;    // 0x00  st_mode: type and permissions
  le32 nlink;   // 0x04  directory: 2 + subdirectories
  le32 uid;     // 0x08
  le32 gid;     // 0x0c
  le64 size;    // 0x10  file: bytes; symlink: length of the target; directory: number of entries
  le64 blocks;  // 0x18  data blocks of all its extents
  le64 rdev;    // 0x20  device nodes: major << 32 | minor
  les64 atime_sec;  // 0x28
  les64 mtime_sec;  // 0x30
  les64 ctime_sec;  // 0x38
  les64 btime_sec;  // 0x40
  le32 atime_nsec;  // 0x48  0..999999999
  le32 mtime_nsec;  // 0x4c
  le32 ctime_nsec;  // 0x50
  le32 btime_nsec;  // 0x54
  le32 flags;       // 0x58  zero
  le32 reserved0;   // 0x5c  zero
};
static_assert(sizeof(InodeRecord) == 0x60 && alignof(InodeRecord) == 1);
static_assert(offsetof(InodeRecord, size) == 0x10 && offsetof(InodeRecord, atime_sec) == 0x28);
static_assert(offsetof(InodeRecord, atime_nsec) == 0x48);

struct DirentRecord {      // name_size bytes of name follow
  le64 inode;              // 0x00
  std::uint8_t type;       // 0x08  DT_* of <dirent.h>: mode >> 12
  std::uint8_t name_size;  // 0x09  1..255
};
static_assert(sizeof(DirentRecord) == 0x0a);

struct ParentRecord {      // name_size bytes of name follow
  le64 directory;          // 0x00
  std::uint8_t name_size;  // 0x08  1..255
};
static_assert(sizeof(ParentRecord) == 0x09);

struct XattrRecord {       // name, then the first min(value_size, kXattrChunk) bytes of the value
  std::uint8_t name_size;  // 0x00  1..255; the whole name, "user.x"
  std::uint8_t reserved0;  // 0x01  zero
  le32 value_size;         // 0x02  0..kMaxXattr
};
static_assert(sizeof(XattrRecord) == 0x06);

struct ExtentRecord {  // count le32 follow: crc32c of each block (kBlockSize bytes, the last zero
                       // padded)
  le64 block;          // 0x00  first block on the device
  le64 owner;          // 0x08  layer that allocated it
  le32 count;          // 0x10  1..kMaxExtentBlocks
};
static_assert(sizeof(ExtentRecord) == 0x14);
static_assert(sizeof(ExtentRecord) + kMaxExtentBlocks * 4 <= kMaxValue);

// Records of the store tree -----------------------------------------------------------------------

enum class LayerState : std::uint8_t {
  kOpen = 1,    // writable, no children
  kFrozen = 2,  // immutable for ever
  kDying = 3,   // removed: no name, no tree; its runs are being freed
};

// LayerRecord::flags
inline constexpr std::uint8_t kLayerHasDigests = 0x01;  // diff_id and chain_id are set
// Removed while it had children or images: no name; freed with the last of those.
inline constexpr std::uint8_t kLayerAnonymous = 0x02;

using Digest = std::array<std::uint8_t, 32>;  // SHA-256

struct LayerRecord {     // name_size bytes of name follow
  le64 parent;           // 0x00  layer id, 0: none (a base)
  std::uint8_t state;    // 0x08  LayerState
  std::uint8_t flags;    // 0x09  kLayer*
  le16 name_size;        // 0x0a  1..255; 0 only when dying or anonymous
  NodePtr root;          // 0x0c  of its file tree
  le64 root_inode;       // 0x20  inode number of its root directory
  le64 own_blocks;       // 0x28  sum of its runs: what removing it frees
  le64 used_blocks;      // 0x30  blocks its tree reaches, its own and inherited: nodes and data
  le64 inodes;           // 0x38  inodes in its tree
  le64 children;         // 0x40  layers whose parent it is
  le64 images;           // 0x48  images whose top layer it is
  les64 created_ns;      // 0x50
  les64 frozen_ns;       // 0x58  0: not frozen
  le64 diff_bytes;       // 0x60  size of the plain tar it was imported from, or 0
  Digest diff_id;        // 0x68
  Digest chain_id;       // 0x88
  le64 serve_id;         // 0xa8  the number it is served under, >= 1; 0 only when dying
  le64 quota_blocks;     // 0xb0  maximum of own_blocks; 0: no limit.  Only while writable
  le64 skeleton_blocks;  // 0xb8  of own_blocks, those that hold its tar's skeleton.  Only while
                         // frozen
};
static_assert(sizeof(LayerRecord) == 0xc0 && alignof(LayerRecord) == 1);
static_assert(offsetof(LayerRecord, root) == 0x0c && offsetof(LayerRecord, root_inode) == 0x20);
static_assert(offsetof(LayerRecord, diff_id) == 0x68 && offsetof(LayerRecord, chain_id) == 0x88);
static_assert(offsetof(LayerRecord, serve_id) == 0xa8 &&
              offsetof(LayerRecord, quota_blocks) == 0xb0);
static_assert(offsetof(LayerRecord, skeleton_blocks) == 0xb8);

struct RunRecord {
  le64 count;  // 0x00  blocks, >= 1; runs never touch or overlap inside a layer
};
static_assert(sizeof(RunRecord) == 8);

enum class BlobCompression : std::uint8_t { kNone = 0, kGzip = 1, kZstd = 2 };

inline constexpr std::uint64_t kMaxSkeleton = 256ull << 20;  // bytes of a skeleton as it is stored
inline constexpr std::uint32_t kBlobHead = 64;      // bytes of a blob that are kept as they came
inline constexpr std::uint32_t kBlobProbe = 65536;  // bytes of a blob that probe_checksum is of

struct SkeletonRecord {
  le64 size;                 // 0x00  bytes of the stream as it is stored, 1..kMaxSkeleton
  le64 first_inode;          // 0x08  file n of the stream is inode first_inode + n
  le64 blob_size;            // 0x10  bytes of the blob the layer came in
  Digest blob_digest;        // 0x18  SHA-256 of it
  std::uint8_t compression;  // 0x38  BlobCompression: of the blob
  std::uint8_t head_size;    // 0x39  min(blob_size, kBlobHead)
  std::array<std::uint8_t, 2> reserved0;  // 0x3a  zero
  le32 probe_checksum;  // 0x3c  crc32c of the blob's first min(blob_size, kBlobProbe) bytes
  std::array<std::uint8_t, kBlobHead> head;  // 0x40  the blob's first bytes, zero behind head_size
};
static_assert(sizeof(SkeletonRecord) == 0x80 && alignof(SkeletonRecord) == 1);
static_assert(offsetof(SkeletonRecord, compression) == 0x38 &&
              offsetof(SkeletonRecord, head) == 0x40);

enum class BlobKind : std::uint32_t { kConfig = 1, kManifest = 2, kIndex = 3 };

struct ImageRecord {
  Digest config_digest;    // 0x00  the image id
  Digest manifest_digest;  // 0x20  sha256 of the manifest's bytes
  le64 top_layer;          // 0x40  0: an image without layers
  le32 layer_count;        // 0x48
  le32 name_count;         // 0x4c
  le32 config_size;        // 0x50  bytes of the raw documents; 0: none
  le32 manifest_size;      // 0x54
  le32 index_size;         // 0x58
  le32 reserved0;          // 0x5c  zero
  les64 imported_ns;       // 0x60
};
static_assert(sizeof(ImageRecord) == 0x68 && offsetof(ImageRecord, top_layer) == 0x40);

enum class NameType : std::uint8_t { kLayer = 1, kImage = 2 };

struct NameRecord {        // name_size bytes of name follow
  le64 id;                 // 0x00
  std::uint8_t type;       // 0x08  NameType
  std::uint8_t reserved0;  // 0x09  zero
  le16 name_size;          // 0x0a
};
static_assert(sizeof(NameRecord) == 0x0c);

struct DigestRecord {
  Digest digest;                          // 0x00  chain_id of a layer, or config digest of an image
  le64 id;                                // 0x20
  std::uint8_t type;                      // 0x28  NameType
  std::array<std::uint8_t, 7> reserved0;  // 0x29  zero
};
static_assert(sizeof(DigestRecord) == 0x30);

struct CheckpointRecord {  // text follows: the operations that came after it, UTF-8 by
                           // intent, 1..kMaxKeptText bytes
  NodePtr root;            // 0x00  of the store tree as it was
  le32 reserved0;          // 0x14  zero
  les64 written_ns;        // 0x18  these as its superblock had them
  le64 store_tree_blocks;  // 0x20
  le64 layer_blocks;       // 0x28
  le64 layer_count;        // 0x30
  le64 image_count;        // 0x38
};
static_assert(sizeof(CheckpointRecord) == 0x40 && alignof(CheckpointRecord) == 1);

struct TreeDigestRecord {
  Digest digest;   // 0x00  doc/format.md, "Digest of a tree"
  le32 algorithm;  // 0x20  kTreeDigestSha256
  le32 reserved0;  // 0x24  zero
};
static_assert(sizeof(TreeDigestRecord) == 0x28);
inline constexpr std::uint32_t kTreeDigestSha256 = 1;

}  // namespace lcfs::format
