// SPDX-License-Identifier: Apache-2.0
// Every field of every structure of format/layout.h, changed: with its checksum left wrong the
// block is found, with checksums made right again the contradiction is; fields in which any value
// is as good as another are listed as such.  Then fsck -y makes it clean.
#include <doctest/doctest.h>

#include <cstddef>
#include <cstring>

#include "format/hash.h"
#include "tests/support/contents.h"
#include "tests/support/mend.h"
#include "tests/support/raw_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

enum Place { kSuper, kLeafHeader, kBranchHeader, kSlot, kEntry, kStoreRecord, kLayerRecord };

struct Field {
  char const* name;
  Place place;
  std::uint8_t kind;  // of a record
  std::size_t offset, size;
  bool free = false;  // other values can be right
};

#define FIELD(place, kind, type, field, ...)                                                  \
  Field {                                                                                     \
#type "::" #field, place, kind, offsetof(type, field), sizeof(type::field), ##__VA_ARGS__ \
  }
constexpr bool kFree = true;

Field const kFields[] = {
    FIELD(kSuper, 0, Superblock, magic),
    FIELD(kSuper, 0, Superblock, checksum, kFree),  // made right again
    FIELD(kSuper, 0, Superblock, superblock_size, kFree),
    FIELD(kSuper, 0, Superblock, block_bits),
    FIELD(kSuper, 0, Superblock, node_bits),
    FIELD(kSuper, 0, Superblock, version),
    FIELD(kSuper, 0, Superblock, slot),
    FIELD(kSuper, 0, Superblock, compat, kFree),
    FIELD(kSuper, 0, Superblock, ro_compat, kFree),
    FIELD(kSuper, 0, Superblock, incompat),
    FIELD(kSuper, 0, Superblock, uuid, kFree),
    FIELD(kSuper, 0, Superblock, hash_seed),
    FIELD(kSuper, 0, Superblock, label, kFree),
    FIELD(kSuper, 0, Superblock, generation, kFree),
    FIELD(kSuper, 0, Superblock, total_blocks),
    FIELD(kSuper, 0, Superblock, store_root),
    FIELD(kSuper, 0, Superblock, keep, kFree),
    FIELD(kSuper, 0, Superblock, next_id, kFree),
    FIELD(kSuper, 0, Superblock, next_inode, kFree),
    FIELD(kSuper, 0, Superblock, created_ns, kFree),
    FIELD(kSuper, 0, Superblock, written_ns, kFree),
    FIELD(kSuper, 0, Superblock, store_tree_blocks),
    FIELD(kSuper, 0, Superblock, layer_blocks),
    FIELD(kSuper, 0, Superblock, layer_count),
    FIELD(kSuper, 0, Superblock, image_count),
    FIELD(kSuper, 0, Superblock, reserved1,
          kFree),  // only the first and last byte are changed; free for the sake of compat bits

    FIELD(kLeafHeader, 0, NodeHeader, magic),
    FIELD(kLeafHeader, 0, NodeHeader, block),
    FIELD(kLeafHeader, 0, NodeHeader, owner),
    FIELD(kLeafHeader, 0, NodeHeader, generation),
    FIELD(kLeafHeader, 0, NodeHeader, level),
    FIELD(kLeafHeader, 0, NodeHeader, reserved0),
    FIELD(kLeafHeader, 0, NodeHeader, count),
    FIELD(kLeafHeader, 0, NodeHeader, heap),
    FIELD(kLeafHeader, 0, NodeHeader, garbage),
    FIELD(kLeafHeader, 0, NodeHeader, store),
    FIELD(kLeafHeader, 0, NodeHeader, reserved1),
    FIELD(kBranchHeader, 0, NodeHeader, magic),
    FIELD(kBranchHeader, 0, NodeHeader, block),
    FIELD(kBranchHeader, 0, NodeHeader, owner),
    FIELD(kBranchHeader, 0, NodeHeader, generation),
    FIELD(kBranchHeader, 0, NodeHeader, level),
    FIELD(kBranchHeader, 0, NodeHeader, reserved0),
    FIELD(kBranchHeader, 0, NodeHeader, count),
    FIELD(kBranchHeader, 0, NodeHeader, heap),
    FIELD(kBranchHeader, 0, NodeHeader, garbage),
    FIELD(kBranchHeader, 0, NodeHeader, store),
    FIELD(kBranchHeader, 0, NodeHeader, reserved1),
    FIELD(kSlot, 0, LeafSlot, inode),
    FIELD(kSlot, 0, LeafSlot, offset, kFree),
    FIELD(kSlot, 0, LeafSlot, kind),
    FIELD(kSlot, 0, LeafSlot, reserved0),
    FIELD(kSlot, 0, LeafSlot, value_offset),
    FIELD(kSlot, 0, LeafSlot, value_size),
    // A bound may stand anywhere between the keys that it parts.
    FIELD(kEntry, 0, BranchEntry, inode, kFree),
    FIELD(kEntry, 0, BranchEntry, offset, kFree),
    FIELD(kEntry, 0, BranchEntry, kind, kFree),
    FIELD(kEntry, 0, BranchEntry, reserved0),
    FIELD(kEntry, 0, BranchEntry, child, kFree),

    FIELD(kLayerRecord, kInode, InodeRecord, mode, kFree),
    FIELD(kLayerRecord, kInode, InodeRecord, nlink),
    FIELD(kLayerRecord, kInode, InodeRecord, uid, kFree),
    FIELD(kLayerRecord, kInode, InodeRecord, gid, kFree),
    FIELD(kLayerRecord, kInode, InodeRecord, size),
    FIELD(kLayerRecord, kInode, InodeRecord, blocks),
    FIELD(kLayerRecord, kInode, InodeRecord, rdev),
    FIELD(kLayerRecord, kInode, InodeRecord, atime_sec, kFree),
    FIELD(kLayerRecord, kInode, InodeRecord, mtime_sec, kFree),
    FIELD(kLayerRecord, kInode, InodeRecord, ctime_sec, kFree),
    FIELD(kLayerRecord, kInode, InodeRecord, btime_sec, kFree),
    FIELD(kLayerRecord, kInode, InodeRecord, atime_nsec, kFree),
    FIELD(kLayerRecord, kInode, InodeRecord, mtime_nsec, kFree),
    FIELD(kLayerRecord, kInode, InodeRecord, ctime_nsec, kFree),
    FIELD(kLayerRecord, kInode, InodeRecord, btime_nsec, kFree),
    FIELD(kLayerRecord, kInode, InodeRecord, flags),
    FIELD(kLayerRecord, kInode, InodeRecord, reserved0),
    FIELD(kLayerRecord, kDirent, DirentRecord, inode),
    FIELD(kLayerRecord, kDirent, DirentRecord, type),
    FIELD(kLayerRecord, kDirent, DirentRecord, name_size),
    FIELD(kLayerRecord, kParent, ParentRecord, directory),
    FIELD(kLayerRecord, kParent, ParentRecord, name_size),
    FIELD(kLayerRecord, kXattr, XattrRecord, name_size),
    FIELD(kLayerRecord, kXattr, XattrRecord, reserved0),
    FIELD(kLayerRecord, kXattr, XattrRecord, value_size),
    FIELD(kLayerRecord, kExtent, ExtentRecord, block),
    FIELD(kLayerRecord, kExtent, ExtentRecord, owner),
    FIELD(kLayerRecord, kExtent, ExtentRecord, count),

    FIELD(kStoreRecord, kLayer, LayerRecord, parent),
    FIELD(kStoreRecord, kLayer, LayerRecord, state),
    FIELD(kStoreRecord, kLayer, LayerRecord, flags),
    FIELD(kStoreRecord, kLayer, LayerRecord, name_size),
    FIELD(kStoreRecord, kLayer, LayerRecord, root),
    FIELD(kStoreRecord, kLayer, LayerRecord, root_inode),
    FIELD(kStoreRecord, kLayer, LayerRecord, own_blocks),
    FIELD(kStoreRecord, kLayer, LayerRecord, used_blocks),
    FIELD(kStoreRecord, kLayer, LayerRecord, inodes),
    FIELD(kStoreRecord, kLayer, LayerRecord, children),
    FIELD(kStoreRecord, kLayer, LayerRecord, images),
    FIELD(kStoreRecord, kLayer, LayerRecord, created_ns, kFree),
    FIELD(kStoreRecord, kLayer, LayerRecord, frozen_ns, kFree),
    FIELD(kStoreRecord, kLayer, LayerRecord, diff_bytes, kFree),
    FIELD(kStoreRecord, kLayer, LayerRecord, diff_id, kFree),
    FIELD(kStoreRecord, kLayer, LayerRecord, chain_id),
    FIELD(kStoreRecord, kLayer, LayerRecord, serve_id),
    FIELD(kStoreRecord, kLayer, LayerRecord, quota_blocks, kFree),
    FIELD(kStoreRecord, kLayer, LayerRecord, skeleton_blocks),
    FIELD(kStoreRecord, kRun, RunRecord, count),
    FIELD(kStoreRecord, kImage, ImageRecord, config_digest),
    FIELD(kStoreRecord, kImage, ImageRecord, manifest_digest),
    FIELD(kStoreRecord, kImage, ImageRecord, top_layer),
    FIELD(kStoreRecord, kImage, ImageRecord, layer_count),
    FIELD(kStoreRecord, kImage, ImageRecord, name_count),
    FIELD(kStoreRecord, kImage, ImageRecord, config_size),
    FIELD(kStoreRecord, kImage, ImageRecord, manifest_size),
    FIELD(kStoreRecord, kImage, ImageRecord, index_size),
    FIELD(kStoreRecord, kImage, ImageRecord, reserved0),
    FIELD(kStoreRecord, kImage, ImageRecord, imported_ns, kFree),
    FIELD(kStoreRecord, kName, NameRecord, id),
    FIELD(kStoreRecord, kName, NameRecord, type),
    FIELD(kStoreRecord, kName, NameRecord, reserved0),
    FIELD(kStoreRecord, kName, NameRecord, name_size),
    FIELD(kStoreRecord, kDigest, DigestRecord, digest),
    FIELD(kStoreRecord, kDigest, DigestRecord, id),
    FIELD(kStoreRecord, kDigest, DigestRecord, type),
    FIELD(kStoreRecord, kDigest, DigestRecord, reserved0),
};
#undef FIELD

struct Sample {
  RawStore s{kMinStoreBlocks, 6};
  std::uint64_t base = 0, child = 0;
  Sample() {
    base = s.add_layer("base", 0);
    auto const etc = s.dir(base, s.root(base), "etc");
    auto const big = s.file(base, etc, "big", std::string(9000, 'b'));
    s.file(base, etc, "small", "hello");
    s.symlink(base, etc, "link", "small");
    s.xattr(base, big, "user.a", std::string(5000, 'x'));
    for (int i = 0; i < 12; ++i) s.file(base, etc, "f" + std::to_string(i), "x");
    auto& info = s.layer(base).info;
    info.has_digests = true;
    info.chain_id.fill(0x11);
    info.diff_id.fill(0x22);
    s.seal_layer(base);
    child = s.add_layer("child", base);
    s.file(child, etc, "new", std::string(5000, 'n'));
    s.seal_layer(child);
    s.add_image("test:1", base, std::string(4000, '{'), "the manifest");
    s.seal();
    s.write();
  }

  std::string node(std::uint64_t block) { return s.read(block * kBlockSize, kNodeSize); }
  // The byte of the first record of that kind in these nodes; 0: there is none.
  std::uint64_t record(std::vector<std::uint64_t> const& nodes, std::uint8_t kind) {
    for (auto const block : nodes) {
      auto const bytes = node(block);
      NodeReader const reader(reinterpret_cast<std::byte const*>(bytes.data()));
      for (std::uint32_t i = 0; reader.leaf() && i < reader.count(); ++i)
        if (reader.key(i).kind == kind)
          return block * kBlockSize + reader.slot(i).value_offset.get();
    }
    return 0;
  }
  std::vector<std::uint64_t> leaves() {
    std::vector<std::uint64_t> blocks;
    for (auto const& leaf : s.layer(base).leaves) blocks.push_back(leaf.ptr.block.get());
    return blocks;
  }
  std::uint64_t at(Field const& f) {
    auto const leaf = leaves().at(1) * kBlockSize,
               root = s.layer(base).info.root.block.get() * kBlockSize;
    switch (f.place) {
      case kSuper: return f.offset;
      case kLeafHeader: return leaf + f.offset;
      case kBranchHeader: return root + f.offset;
      case kSlot: return leaf + sizeof(NodeHeader) + sizeof(LeafSlot) + f.offset;
      case kEntry: return root + sizeof(NodeHeader) + sizeof(BranchEntry) + f.offset;
      case kStoreRecord: return record(s.store_nodes, f.kind) + f.offset;
      case kLayerRecord: return record(leaves(), f.kind) + f.offset;
    }
    return 0;
  }

  // Makes the checksums of the node at `block`, and of all above it, right again.
  NodePtr reseal(NodePtr ptr, std::uint64_t changed) {
    auto const block = ptr.block.get();
    AlignedBuffer buffer(kNodeSize);
    auto const bytes = node(block);
    std::memcpy(buffer.data(), bytes.data(), kNodeSize);
    NodeEditor editor(buffer.data());
    if (block != changed && !editor.leaf())
      for (std::uint32_t i = 0; i < editor.count(); ++i)
        editor.set_child(i, reseal(editor.entry(i).child, changed));
    if (block != changed && editor.leaf() && editor.header().owner.get() == 0)
      for (std::uint32_t i = 0; i < editor.count(); ++i) {
        if (editor.key(i).kind != kLayer) continue;
        auto const value = editor.mutable_value(i);
        NodePtr root;
        std::memcpy(&root, value.data() + offsetof(LayerRecord, root), sizeof root);
        root = reseal(root, changed);
        std::memcpy(value.data() + offsetof(LayerRecord, root), &root, sizeof root);
      }
    ptr.checksum.set(seal_node(buffer.span()));
    s.put(block * kBlockSize, {reinterpret_cast<char const*>(buffer.data()), kNodeSize});
    return ptr;
  }
  void reseal_all(std::uint64_t changed) {
    auto super = s.read(0, kBlockSize);
    Superblock sb;
    std::memcpy(&sb, super.data(), sizeof sb);
    if (changed != 0) sb.store_root = reseal(sb.store_root, changed);
    std::memcpy(super.data(), &sb, sizeof sb);
    auto const size =
        std::min<std::size_t>(std::max<std::size_t>(sb.superblock_size.get(), 0xd), kBlockSize);
    sb.checksum.set(crc32c(std::as_bytes(std::span{super}).subspan(0xc, size - 0xc)));
    std::memcpy(super.data(), &sb, sizeof sb);
    s.put(0, super);
  }
};

bool names(fsck::Report const& r, std::uint64_t from, std::uint64_t to) {
  for (auto const& f : r.findings)
    if (f.offset >= from && f.offset < to) return true;
  return false;
}

}  // namespace

TEST_CASE(
    "damage: every field that is changed is found at its place, and mended or cleanly refused") {
  for (auto const& f : kFields) {
    CAPTURE(f.name);
    for (bool const last : {false, true}) {
      for (bool const sealed : {false, true}) {
        CAPTURE(last);
        CAPTURE(sealed);
        Sample t;
        REQUIRE(findings_of(t.s.device()) == "");
        auto const before = contents_of(t.s.device());
        auto const field = t.at(f);
        REQUIRE((f.place == kSuper || field > kReservedBlocks * kBlockSize));
        t.s.flip(field + (last ? f.size - 1 : 0), last ? 0x80 : 0x01);
        std::uint64_t node = 0;  // first block of the node that was changed
        for (auto const b : t.s.store_nodes)
          if (field / kBlockSize - b < kNodeBlocks) node = b;
        for (auto const b : t.leaves())
          if (field / kBlockSize - b < kNodeBlocks) node = b;
        if (f.place == kBranchHeader || f.place == kEntry)
          node = t.s.layer(t.base).info.root.block.get();
        if (sealed) t.reseal_all(node);
        auto const r = fsck::check(t.s.device(), {});
        if (!r) {  // a newer format, or no store at all
          CHECK(f.place == kSuper);
          continue;
        }
        if (!sealed) {
          CHECK_FALSE(r->clean());
          CHECK(names(*r, node * kBlockSize, (node + kNodeBlocks) * kBlockSize));
        } else if (!f.free) {
          CHECK_FALSE(r->clean());
        }
        auto const m = mend(t.s.device());
        CAPTURE(m.text);
        if (!m.ok) {
          CHECK_MESSAGE(m.error.message.find("nothing to repair from") != std::string::npos,
                        m.error.text());
          continue;
        }
        CHECK(findings_of(t.s.device()) == "");
        auto const after = contents_of(t.s.device());
        REQUIRE(after);
        if (sealed) continue;  // who forges checksums may forge contents
        for (auto const& entry : *after) {
          auto const it = before->find(entry.first);
          bool const known =
              it != before->end() && (it->second == entry.second || it->second.starts_with("16"));
          bool const moved = entry.first.find("lost+found") != std::string::npos ||
                             entry.first.starts_with("lost-");
          bool const attribute = it != before->end() && it->second.starts_with(entry.second);
          CHECK_MESSAGE((known || moved || attribute), entry.first);
        }
      }
    }
  }
}
