// SPDX-License-Identifier: Apache-2.0
// Records of the store tree: layers, runs, skeletons, images, names, digests and checkpoints.
#include <fmt/format.h>

#include "format/hash.h"
#include "format/record_checks.h"
#include "format/records.h"

namespace lcfs::format {

namespace {

// What a layer record may say depends on its state: a dying layer has neither name nor tree, an
// anonymous one is frozen and in use.
Status check_layer_state(LayerRecord const& r, std::uint64_t total_blocks) {
  if (r.state < static_cast<std::uint8_t>(LayerState::kOpen) ||
      r.state > static_cast<std::uint8_t>(LayerState::kDying))
    return corrupt_at(offsetof(LayerRecord, state), fmt::format("unknown layer state {}", r.state));
  bool const dying = r.state == static_cast<std::uint8_t>(LayerState::kDying);
  bool const open = r.state == static_cast<std::uint8_t>(LayerState::kOpen);
  auto const name_size = r.name_size.get();
  bool const anonymous = (r.flags & kLayerAnonymous) != 0;
  if (anonymous && r.state != static_cast<std::uint8_t>(LayerState::kFrozen))
    return corrupt_at(offsetof(LayerRecord, flags), "anonymous layer that is not frozen");
  if (anonymous && r.children.get() == 0 && r.images.get() == 0)
    return corrupt_at(offsetof(LayerRecord, flags), "anonymous layer without children and images");
  if (name_size > kMaxLayerName || (name_size == 0) != (dying || anonymous))
    return corrupt_at(offsetof(LayerRecord, name_size),
                      fmt::format("invalid layer name size: {} bytes", name_size));
  if (dying) {
    if (r.root.block.get() != 0)
      return corrupt_at(offsetof(LayerRecord, root),
                        fmt::format("dying layer with a tree at block {}", r.root.block.get()));
  } else {
    LCFS_TRY(check_pointer("layer root", r.root, total_blocks, offsetof(LayerRecord, root)));
    if (r.root_inode.get() == 0)
      return corrupt_at(offsetof(LayerRecord, root_inode), "layer with root inode 0");
    if (r.skeleton_blocks.get() > r.own_blocks.get() ||
        r.own_blocks.get() - r.skeleton_blocks.get() > r.used_blocks.get())
      return corrupt_at(offsetof(LayerRecord, own_blocks),
                        fmt::format("own_blocks {}, but used_blocks {}", r.own_blocks.get(),
                                    r.used_blocks.get()));
  }
  bool const frozen = r.state == static_cast<std::uint8_t>(LayerState::kFrozen);
  if (!frozen && r.skeleton_blocks.get() != 0)
    return corrupt_at(
        offsetof(LayerRecord, skeleton_blocks),
        fmt::format("skeleton_blocks {} in a layer that is not frozen", r.skeleton_blocks.get()));
  // A parent never changes (I2), so only frozen layers are parents.
  if (!frozen && r.children.get() != 0)
    return corrupt_at(offsetof(LayerRecord, children),
                      fmt::format("children {} in a layer that is not frozen", r.children.get()));
  if (open && r.frozen_ns.get() != 0)
    return corrupt_at(offsetof(LayerRecord, frozen_ns), "writable layer with a freeze time");
  if ((r.serve_id.get() == 0) != dying)
    return corrupt_at(
        offsetof(LayerRecord, serve_id),
        fmt::format("{} layer with serve_id {}", dying ? "dying" : "live", r.serve_id.get()));
  if (!open && r.quota_blocks.get() != 0)
    return corrupt_at(
        offsetof(LayerRecord, quota_blocks),
        fmt::format("quota of {} blocks on a layer that is not writable", r.quota_blocks.get()));
  return {};
}

Status check_layer_rest(LayerRecord const& r, std::uint64_t total_blocks) {
  if ((r.flags & ~(kLayerHasDigests | kLayerAnonymous)) != 0)
    return corrupt_at(offsetof(LayerRecord, flags),
                      fmt::format("unknown layer flags {:#x}", r.flags));
  if (r.own_blocks.get() > total_blocks)
    return corrupt_at(
        offsetof(LayerRecord, own_blocks),
        fmt::format("own_blocks {}, but the store has only {}", r.own_blocks.get(), total_blocks));
  if (r.used_blocks.get() > total_blocks)
    return corrupt_at(offsetof(LayerRecord, used_blocks),
                      fmt::format("used_blocks {}, but the store has only {}", r.used_blocks.get(),
                                  total_blocks));
  if ((r.flags & kLayerHasDigests) == 0) {
    if (auto const n = first_nonzero(r.diff_id); n < r.diff_id.size())
      return corrupt_at(offsetof(LayerRecord, diff_id) + n, "diff_id in a layer without digests");
    if (auto const n = first_nonzero(r.chain_id); n < r.chain_id.size())
      return corrupt_at(offsetof(LayerRecord, chain_id) + n, "chain_id in a layer without digests");
  }
  return {};
}

}  // namespace

Result<LayerInfo> parse_layer(Key const& key, Bytes value, std::uint64_t total_blocks) {
  if (key.inode == 0 || key.kind != kLayer || key.offset != 0) return bad_key("layer record", key);
  LCFS_TRY_ASSIGN(auto const r, fixed_part<LayerRecord>("layer record", value));
  if (r.parent.get() == key.inode)
    return corrupt_at(offsetof(LayerRecord, parent),
                      fmt::format("layer {} is its own parent", key.inode));
  LCFS_TRY(check_layer_state(r, total_blocks));
  LCFS_TRY(check_layer_rest(r, total_blocks));
  LCFS_TRY(check_size("layer record", value, sizeof r + r.name_size.get()));
  auto const name = text_of(value, sizeof r);
  LCFS_TRY(check_component("layer name", name, sizeof r));
  LayerInfo info;
  info.id = key.inode;
  info.parent = r.parent.get();
  info.state = static_cast<LayerState>(r.state);
  info.has_digests = (r.flags & kLayerHasDigests) != 0;
  info.root = r.root;
  info.root_inode = r.root_inode.get();
  info.own_blocks = r.own_blocks.get();
  info.used_blocks = r.used_blocks.get();
  info.inodes = r.inodes.get();
  info.children = r.children.get();
  info.images = r.images.get();
  info.created_ns = r.created_ns.get();
  info.frozen_ns = r.frozen_ns.get();
  info.diff_bytes = r.diff_bytes.get();
  info.diff_id = r.diff_id;
  info.chain_id = r.chain_id;
  info.serve_id = r.serve_id.get();
  info.quota_blocks = r.quota_blocks.get();
  info.skeleton_blocks = r.skeleton_blocks.get();
  info.anonymous = (r.flags & kLayerAnonymous) != 0;
  info.name = info.anonymous ? fmt::format("@{}", info.id) : std::string(name);
  return info;
}

std::string encode_layer(LayerInfo const& info) {
  LayerRecord r{};
  r.parent.set(info.parent);
  r.state = static_cast<std::uint8_t>(info.state);
  r.flags = static_cast<std::uint8_t>((info.has_digests ? kLayerHasDigests : 0) |
                                      (info.anonymous ? kLayerAnonymous : 0));
  auto const name = info.anonymous ? std::string_view{} : std::string_view(info.name);
  r.name_size.set(static_cast<std::uint16_t>(name.size()));
  r.root = info.root;
  r.root_inode.set(info.root_inode);
  r.own_blocks.set(info.own_blocks);
  r.used_blocks.set(info.used_blocks);
  r.inodes.set(info.inodes);
  r.children.set(info.children);
  r.images.set(info.images);
  r.created_ns.set(info.created_ns);
  r.frozen_ns.set(info.frozen_ns);
  r.diff_bytes.set(info.diff_bytes);
  r.diff_id = info.diff_id;
  r.chain_id = info.chain_id;
  r.serve_id.set(info.serve_id);
  r.quota_blocks.set(info.quota_blocks);
  r.skeleton_blocks.set(info.skeleton_blocks);
  return with_tail(r, name);
}

Result<RunInfo> parse_run(Key const& key, Bytes value, std::uint64_t total_blocks) {
  if (key.inode == 0 || key.kind != kRun || key.offset < kReservedBlocks ||
      key.offset >= total_blocks)
    return bad_key("space run", key);
  LCFS_TRY_ASSIGN(auto const r, fixed_part<RunRecord>("space run", value));
  LCFS_TRY(check_size("space run", value, sizeof r));
  auto const count = r.count.get();
  if (count == 0 || count > total_blocks - key.offset)
    return corrupt_at(offsetof(RunRecord, count),
                      fmt::format("invalid space run: blocks {}+{}", key.offset, count));
  return RunInfo{key.inode, key.offset, count};
}

std::string encode_run(RunInfo const& info) {
  RunRecord r{};
  r.count.set(info.count);
  return with_tail(r, {});
}

Result<SkeletonInfo> parse_skeleton(Key const& key, Bytes value) {
  if (key.inode == 0 || key.kind != kSkeleton || key.offset != 0)
    return bad_key("skeleton record", key);
  LCFS_TRY_ASSIGN(auto const r, fixed_part<SkeletonRecord>("skeleton record", value));
  LCFS_TRY(check_size("skeleton record", value, sizeof r));
  auto const size = r.size.get(), blob_size = r.blob_size.get();
  if (size == 0 || size > kMaxSkeleton)
    return corrupt_at(offsetof(SkeletonRecord, size),
                      fmt::format("invalid skeleton size: {} bytes", size));
  if (r.first_inode.get() == 0)
    return corrupt_at(offsetof(SkeletonRecord, first_inode), "skeleton with first inode 0");
  if (r.compression > static_cast<std::uint8_t>(BlobCompression::kZstd))
    return corrupt_at(offsetof(SkeletonRecord, compression),
                      fmt::format("unknown blob compression {}", r.compression));
  if (r.head_size != std::min<std::uint64_t>(blob_size, kBlobHead))
    return corrupt_at(offsetof(SkeletonRecord, head_size),
                      fmt::format("head of {} bytes in a blob of {}", r.head_size, blob_size));
  if (auto const n = first_nonzero(r.reserved0); n < r.reserved0.size())
    return corrupt_at(offsetof(SkeletonRecord, reserved0) + n,
                      fmt::format("reserved byte is {:#x}, not zero", r.reserved0[n]));
  auto const behind = std::span{r.head}.subspan(r.head_size);
  if (auto const n = first_nonzero(behind); n < behind.size())
    return corrupt_at(offsetof(SkeletonRecord, head) + r.head_size + n,
                      fmt::format("byte after the head is {:#x}, not zero", behind[n]));
  SkeletonInfo info;
  info.layer = key.inode;
  info.size = size;
  info.first_inode = r.first_inode.get();
  info.blob = {r.blob_digest, blob_size, static_cast<BlobCompression>(r.compression),
               r.probe_checksum.get(),
               std::string(reinterpret_cast<char const*>(r.head.data()), r.head_size)};
  return info;
}

std::string encode_skeleton(SkeletonInfo const& info) {
  SkeletonRecord r{};
  r.size.set(info.size);
  r.first_inode.set(info.first_inode);
  r.blob_size.set(info.blob.size);
  r.blob_digest = info.blob.digest;
  r.compression = static_cast<std::uint8_t>(info.blob.compression);
  r.head_size = static_cast<std::uint8_t>(info.blob.head.size());
  r.probe_checksum.set(info.blob.probe_checksum);
  std::memcpy(r.head.data(), info.blob.head.data(), info.blob.head.size());
  return with_tail(r, {});
}

Result<ExtentInfo> parse_skeleton_extent(Key const& key, Bytes value, std::uint64_t total_blocks) {
  if (key.inode == 0 || key.kind != kSkeletonExtent || key.offset % kBlockSize != 0 ||
      key.offset >= kMaxSkeleton)
    return bad_key("skeleton extent", key);
  LCFS_TRY_ASSIGN(auto const extent, extent_at(key, value, total_blocks, kMaxSkeleton));
  if (extent.owner != key.inode)
    return corrupt_at(
        offsetof(ExtentRecord, owner),
        fmt::format("skeleton of layer {} owned by layer {}", key.inode, extent.owner));
  return extent;
}

Result<ImageInfo> parse_image(Key const& key, Bytes value) {
  if (key.inode == 0 || key.kind != kImage || key.offset != 0) return bad_key("image record", key);
  LCFS_TRY_ASSIGN(auto const r, fixed_part<ImageRecord>("image record", value));
  LCFS_TRY(check_size("image record", value, sizeof r));
  if ((r.top_layer.get() == 0) != (r.layer_count.get() == 0))
    return corrupt_at(
        offsetof(ImageRecord, layer_count),
        fmt::format("layer_count {} with top layer {}", r.layer_count.get(), r.top_layer.get()));
  if (r.reserved0.get() != 0)
    return corrupt_at(offsetof(ImageRecord, reserved0),
                      fmt::format("reserved0 {:#x}, not zero", r.reserved0.get()));
  ImageInfo info;
  info.id = key.inode;
  info.config_digest = r.config_digest;
  info.manifest_digest = r.manifest_digest;
  info.top_layer = r.top_layer.get();
  info.layer_count = r.layer_count.get();
  info.name_count = r.name_count.get();
  info.config_size = r.config_size.get();
  info.manifest_size = r.manifest_size.get();
  info.index_size = r.index_size.get();
  info.imported_ns = r.imported_ns.get();
  return info;
}

std::string encode_image(ImageInfo const& info) {
  ImageRecord r{};
  r.config_digest = info.config_digest;
  r.manifest_digest = info.manifest_digest;
  r.top_layer.set(info.top_layer);
  r.layer_count.set(info.layer_count);
  r.name_count.set(info.name_count);
  r.config_size.set(info.config_size);
  r.manifest_size.set(info.manifest_size);
  r.index_size.set(info.index_size);
  r.imported_ns.set(info.imported_ns);
  return with_tail(r, {});
}

namespace {

Result<NameType> parse_type(std::uint8_t type, std::size_t at) {
  switch (static_cast<NameType>(type)) {
    case NameType::kLayer: return NameType::kLayer;
    case NameType::kImage: return NameType::kImage;
  }
  return corrupt_at(at, fmt::format("unknown name type {}", type));
}

}  // namespace

Result<NameInfo> parse_name(Key const& key, Bytes value) {
  if (key.inode != 0 || key.kind != kName || !is_name_key(key.offset))
    return bad_key("name record", key);
  LCFS_TRY_ASSIGN(auto const r, fixed_part<NameRecord>("name record", value));
  if (r.id.get() == 0) return corrupt_at(offsetof(NameRecord, id), "name of id 0");
  LCFS_TRY_ASSIGN(auto const type, parse_type(r.type, offsetof(NameRecord, type)));
  if (r.reserved0 != 0)
    return corrupt_at(offsetof(NameRecord, reserved0),
                      fmt::format("reserved0 {:#x}, not zero", r.reserved0));
  auto const size = r.name_size.get();
  if (size == 0 || size > (type == NameType::kLayer ? kMaxLayerName : kMaxImageName))
    return corrupt_at(offsetof(NameRecord, name_size),
                      fmt::format("invalid name size: {} bytes", size));
  LCFS_TRY(check_size("name record", value, sizeof r + size));
  auto const name = text_of(value, sizeof r);
  if (type == NameType::kLayer)
    LCFS_TRY(check_component("layer name", name, sizeof r));
  else
    LCFS_TRY(check_no_nul("image name", name, sizeof r));
  return NameInfo{r.id.get(), type, name};
}

std::string encode_name(NameInfo const& info) {
  NameRecord r{};
  r.id.set(info.id);
  r.type = static_cast<std::uint8_t>(info.type);
  r.name_size.set(static_cast<std::uint16_t>(info.name.size()));
  return with_tail(r, info.name);
}

Result<DigestInfo> parse_digest(Key const& key, Bytes value) {
  if (key.inode != 0 || key.kind != kDigest) return bad_key("digest record", key);
  LCFS_TRY_ASSIGN(auto const r, fixed_part<DigestRecord>("digest record", value));
  LCFS_TRY(check_size("digest record", value, sizeof r));
  if ((key.offset & ~(kProbes - 1)) != digest_key(r.digest))
    return corrupt_at(offsetof(DigestRecord, digest),
                      fmt::format("digest {} at the key of another one, {:#x}",
                                  digest_hex(r.digest), key.offset));
  if (r.id.get() == 0) return corrupt_at(offsetof(DigestRecord, id), "digest of id 0");
  LCFS_TRY_ASSIGN(auto const type, parse_type(r.type, offsetof(DigestRecord, type)));
  if (auto const n = first_nonzero(r.reserved0); n < r.reserved0.size())
    return corrupt_at(offsetof(DigestRecord, reserved0) + n,
                      fmt::format("reserved byte is {:#x}, not zero", r.reserved0[n]));
  return DigestInfo{r.digest, r.id.get(), type};
}

std::string encode_digest(DigestInfo const& info) {
  DigestRecord r{};
  r.digest = info.digest;
  r.id.set(info.id);
  r.type = static_cast<std::uint8_t>(info.type);
  return with_tail(r, {});
}

// Digests as text ---------------------------------------------------------------------------------

std::string digest_hex(Digest const& digest) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out;
  out.reserve(digest.size() * 2);
  for (auto const b : digest) {
    out += kHex[b >> 4];
    out += kHex[b & 0xf];
  }
  return out;
}

Result<KeptCheckpoint> parse_checkpoint(Key const& key, Bytes value, std::uint64_t total_blocks) {
  if (key.inode != 0 || key.kind != kCheckpoint || key.offset == 0)
    return bad_key("checkpoint record", key);
  LCFS_TRY_ASSIGN(auto const r, fixed_part<CheckpointRecord>("checkpoint record", value));
  bool const empty = r.root.block.get() == 0;
  if (empty && (r.store_tree_blocks.get() != 0 || r.layer_blocks.get() != 0))
    return corrupt_at(0, "checkpoint counts blocks, but has no store tree");
  if (!empty) LCFS_TRY(check_pointer("checkpoint root", r.root, total_blocks, 0));
  if (r.root.generation.get() > key.offset)
    return corrupt_at(offsetof(NodePtr, generation),
                      fmt::format("checkpoint {} with a root of later generation {}", key.offset,
                                  r.root.generation.get()));
  if (r.reserved0.get() != 0)
    return corrupt_at(offsetof(CheckpointRecord, reserved0),
                      fmt::format("reserved0 {:#x}, not zero", r.reserved0.get()));
  auto const text = text_of(value, sizeof r);
  if (text.empty() || text.size() > kMaxKeptText)
    return corrupt_at(sizeof r, fmt::format("invalid checkpoint text size: {} bytes", text.size()));
  KeptCheckpoint info;
  info.generation = key.offset;
  info.root = r.root;
  info.written_ns = r.written_ns.get();
  info.store_tree_blocks = r.store_tree_blocks.get();
  info.layer_blocks = r.layer_blocks.get();
  info.layer_count = r.layer_count.get();
  info.image_count = r.image_count.get();
  info.text = text;
  return info;
}

std::string encode_checkpoint(KeptCheckpoint const& info) {
  CheckpointRecord r{};
  r.root = info.root;
  r.written_ns.set(info.written_ns);
  r.store_tree_blocks.set(info.store_tree_blocks);
  r.layer_blocks.set(info.layer_blocks);
  r.layer_count.set(info.layer_count);
  r.image_count.set(info.image_count);
  return with_tail(r, std::string_view(info.text).substr(0, kMaxKeptText));
}

Result<Digest> parse_tree_digest(Key const& key, Bytes value) {
  if (key.inode == 0 || key.kind != kTreeDigest || key.offset != 0)
    return bad_key("tree digest", key);
  LCFS_TRY_ASSIGN(auto const r, fixed_part<TreeDigestRecord>("tree digest", value));
  LCFS_TRY(check_size("tree digest", value, sizeof r));
  if (r.algorithm.get() != kTreeDigestSha256)
    return corrupt_at(offsetof(TreeDigestRecord, algorithm),
                      fmt::format("unknown tree digest algorithm {}", r.algorithm.get()));
  if (r.reserved0.get() != 0)
    return corrupt_at(offsetof(TreeDigestRecord, reserved0),
                      fmt::format("reserved0 {:#x}, not zero", r.reserved0.get()));
  return r.digest;
}

std::string encode_tree_digest(Digest const& digest) {
  TreeDigestRecord r{};
  r.digest = digest;
  r.algorithm.set(kTreeDigestSha256);
  return with_tail(r, {});
}

std::string digest_text(Digest const& digest) { return "sha256:" + digest_hex(digest); }

Result<Digest> parse_digest_text(std::string_view text) {
  auto const bad = [text] {
    return Error::invalid(fmt::format("\"{}\" is not a SHA-256 digest", text));
  };
  auto hex = text;
  if (hex.starts_with("sha256:")) hex.remove_prefix(7);
  Digest digest{};
  if (hex.size() != digest.size() * 2) return bad();
  for (std::size_t i = 0; i < hex.size(); ++i) {
    char const c = hex[i];
    int v = 0;
    if (c >= '0' && c <= '9')
      v = c - '0';
    else if (c >= 'a' && c <= 'f')
      v = c - 'a' + 10;
    else
      return bad();  // the OCI spec requires lower case
    digest[i / 2] = static_cast<std::uint8_t>(digest[i / 2] << 4 | v);
  }
  return digest;
}

}  // namespace lcfs::format
