// SPDX-License-Identifier: Apache-2.0
#include "format/superblock.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "format/hash.h"

namespace lcfs::format {
namespace {

constexpr std::size_t kChecksumFrom = offsetof(Superblock, superblock_size);

Error corrupt_at(std::size_t offset, std::string message) {
  return Error::corrupt(std::move(message)).at(offset);
}

// Index of the first byte that is not zero, or the size.
std::size_t first_nonzero(std::span<std::byte const> bytes) {
  auto const it =
      std::find_if(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; });
  return static_cast<std::size_t>(it - bytes.begin());
}

Status check_geometry(Superblock const& sb, SuperblockCheck const& check) {
  if (sb.block_bits != kBlockBits)
    return corrupt_at(offsetof(Superblock, block_bits),
                      fmt::format("block_bits {}, not {}", sb.block_bits, kBlockBits));
  if (sb.node_bits != kNodeBits)
    return corrupt_at(offsetof(Superblock, node_bits),
                      fmt::format("node_bits {}, not {}", sb.node_bits, kNodeBits));
  if (sb.slot.get() != check.slot)
    return corrupt_at(offsetof(Superblock, slot),
                      fmt::format("slot {}, but found in slot {}", sb.slot.get(), check.slot));
  auto const total = sb.total_blocks.get();
  if (total < kMinStoreBlocks || total > kMaxStoreBlocks)
    return corrupt_at(
        offsetof(Superblock, total_blocks),
        fmt::format("total_blocks {} not in {}..{}", total, kMinStoreBlocks, kMaxStoreBlocks));
  if (total > check.device_size / kBlockSize)
    return corrupt_at(
        offsetof(Superblock, total_blocks),
        fmt::format("total_blocks {}, but the device has only {}: the store is cut short", total,
                    check.device_size / kBlockSize));
  return {};
}

Status check_root(Superblock const& sb) {
  constexpr auto kAt = offsetof(Superblock, store_root);
  auto const block = sb.store_root.block.get();
  auto const generation = sb.store_root.generation.get();
  if (block == 0) {  // an empty store tree: then nothing may be counted in it
    if (sb.store_tree_blocks.get() != 0 || sb.layer_count.get() != 0 || sb.image_count.get() != 0)
      return corrupt_at(kAt, "store_root is empty, but the store tree is not");
    return {};
  }
  if (block < kReservedBlocks || block > sb.total_blocks.get() - kNodeBlocks)
    return corrupt_at(kAt, fmt::format("store_root block {} outside the store", block));
  if (generation == 0 || generation > sb.generation.get())
    return corrupt_at(
        kAt + offsetof(NodePtr, generation),
        fmt::format("store_root generation {} not in 1..{}", generation, sb.generation.get()));
  return {};
}

Status check_counters(Superblock const& sb) {
  if (sb.next_id.get() == 0) return corrupt_at(offsetof(Superblock, next_id), "next_id 0");
  if (sb.next_inode.get() == 0) return corrupt_at(offsetof(Superblock, next_inode), "next_inode 0");
  auto const room = sb.total_blocks.get() - kReservedBlocks;
  auto const tree = sb.store_tree_blocks.get();
  if (tree > room || tree % kNodeBlocks != 0)
    return corrupt_at(offsetof(Superblock, store_tree_blocks),
                      fmt::format("store_tree_blocks {}, not a multiple of {} up to {}", tree,
                                  kNodeBlocks, room));
  if (sb.layer_blocks.get() > room - tree)
    return corrupt_at(offsetof(Superblock, layer_blocks),
                      fmt::format("layer_blocks {}, but only {} blocks are left",
                                  sb.layer_blocks.get(), room - tree));
  // Layers and images take their ids from one counter, so together they are fewer than it says.
  auto const ids = sb.next_id.get() - 1;
  if (sb.layer_count.get() > ids)
    return corrupt_at(
        offsetof(Superblock, layer_count),
        fmt::format("layer_count {}, but only {} ids are assigned", sb.layer_count.get(), ids));
  if (sb.image_count.get() > ids - sb.layer_count.get())
    return corrupt_at(offsetof(Superblock, image_count),
                      fmt::format("image_count {}, but only {} ids are left", sb.image_count.get(),
                                  ids - sb.layer_count.get()));
  return {};
}

// Label padding and reserved bytes.  A feature that this lcfs may ignore can give a reserved byte a
// meaning, so they are only checked in a store without unknown features.
Status check_padding(Superblock const& sb) {
  auto const label = std::as_bytes(std::span{sb.label});
  auto const end =
      static_cast<std::size_t>(std::find(label.begin(), label.end(), std::byte{0}) - label.begin());
  if (auto const n = first_nonzero(label.subspan(end)); end + n < label.size())
    return corrupt_at(offsetof(Superblock, label) + end + n, "label has bytes after its end");
  if (sb.keep.get() > kMaxKept + 1)
    return corrupt_at(offsetof(Superblock, keep),
                      fmt::format("keep {}, more than {}", sb.keep.get(), kMaxKept + 1));
  if ((sb.compat.get() & ~kKnownCompat) != 0 || (sb.ro_compat.get() & ~kKnownRoCompat) != 0)
    return {};
  auto const reserved = std::as_bytes(std::span{sb.reserved1});
  if (auto const n = first_nonzero(reserved); n < reserved.size())
    return corrupt_at(
        offsetof(Superblock, reserved1) + n,
        fmt::format("reserved byte is {:#x}, not zero", std::to_integer<unsigned>(reserved[n])));
  return {};
}

// The runs after the superblock are in other sectors, so they may be older or newer than it.
Status parse_written(Superblock const& sb, std::span<std::byte const> bytes, bool skip_checksum,
                     SuperblockInfo& info) {
  auto const count = sb.written_count.get();
  std::size_t const at = sb.superblock_size.get();
  if (count > kMaxWritten ||
      at + count * sizeof(WrittenRun) > std::min<std::size_t>(bytes.size(), kBlockSize))
    return corrupt_at(
        offsetof(Superblock, written_count),
        fmt::format("written_count {}, more than {} or than fit", count, kMaxWritten));
  if (count == 0) {
    if (sb.written_checksum.get() == 0) return {};
    return corrupt_at(offsetof(Superblock, written_checksum), "written_checksum without runs");
  }
  auto const runs = bytes.subspan(at, count * sizeof(WrittenRun));
  if (!skip_checksum && crc32c(runs) != sb.written_checksum.get()) {
    info.written_torn = true;
    return {};
  }
  info.written.resize(count);
  std::memcpy(info.written.data(), runs.data(), runs.size());
  for (std::size_t i = 0; i < count; ++i) {
    auto const& run = info.written[i];
    auto const block = run.block.get(), n = std::uint64_t{run.count.get()};
    if (n < 1 || n > kNodeBlocks || block < kReservedBlocks || block > sb.total_blocks.get() - n)
      return corrupt_at(at + i * sizeof(WrittenRun),
                        fmt::format("invalid written run: {} blocks at block {}", n, block));
  }
  return {};
}

}  // namespace

bool holds(WrittenRun const& run, std::span<std::byte const> bytes) {
  return bytes.size() == std::size_t{run.count.get()} * kBlockSize &&
         crc32c(bytes) == run.checksum.get();
}

Result<SuperblockInfo> parse_superblock(std::span<std::byte const> bytes,
                                        SuperblockCheck const& check) {
  if (bytes.size() < kSuperMagic.size() ||
      std::memcmp(bytes.data(), kSuperMagic.data(), kSuperMagic.size()) != 0)
    return Error::invalid("not an lcfs store").at(0);
  if (bytes.size() < sizeof(Superblock))
    return corrupt_at(bytes.size(), fmt::format("superblock cut short: {} of {} bytes",
                                                bytes.size(), sizeof(Superblock)));
  Superblock sb;
  std::memcpy(&sb, bytes.data(), sizeof sb);

  // The checksum comes first: it distinguishes a damaged superblock from that of a newer lcfs.
  auto const size = sb.superblock_size.get();
  if (size < sizeof(Superblock) || size > kBlockSize || size > bytes.size())
    return corrupt_at(offsetof(Superblock, superblock_size),
                      fmt::format("superblock_size {} not in {}..{}", size, sizeof(Superblock),
                                  std::min<std::size_t>(bytes.size(), kBlockSize)));
  if (!check.skip_checksum) {
    auto const sum = crc32c(bytes.subspan(kChecksumFrom, size - kChecksumFrom));
    if (sum != sb.checksum.get())
      return corrupt_at(offsetof(Superblock, checksum),
                        fmt::format("checksum mismatch: computed {:#010x}, stored {:#010x}", sum,
                                    sb.checksum.get()));
  }
  if (auto const version = sb.version.get(); version != kFormatVersion)
    return Error::unsupported(
               version > kFormatVersion
                   ? fmt::format("created by a newer lcfs (format {}; this version supports {}); "
                                 "upgrade lcfs",
                                 version, kFormatVersion)
                   : fmt::format("unknown format version {}", version))
        .at(offsetof(Superblock, version));
  if (auto const unknown = sb.incompat.get() & ~kKnownIncompat; unknown != 0)
    return Error::unsupported(
               fmt::format(
                   "the store uses features {:#x}, which this lcfs does not support; upgrade lcfs",
                   unknown))
        .at(offsetof(Superblock, incompat));

  LCFS_TRY(check_geometry(sb, check));
  if (sb.generation.get() == 0) return corrupt_at(offsetof(Superblock, generation), "generation 0");
  LCFS_TRY(check_counters(sb));
  LCFS_TRY(check_root(sb));
  LCFS_TRY(check_padding(sb));

  SuperblockInfo info;
  info.slot = sb.slot.get();
  info.compat = sb.compat.get();
  info.ro_compat = sb.ro_compat.get();
  info.incompat = sb.incompat.get();
  info.uuid = sb.uuid;
  info.hash_seed = sb.hash_seed;
  info.label.assign(sb.label.begin(), std::find(sb.label.begin(), sb.label.end(), std::uint8_t{0}));
  info.generation = sb.generation.get();
  info.total_blocks = sb.total_blocks.get();
  info.store_root = sb.store_root;
  info.next_id = sb.next_id.get();
  info.next_inode = sb.next_inode.get();
  info.created_ns = sb.created_ns.get();
  info.written_ns = sb.written_ns.get();
  info.store_tree_blocks = sb.store_tree_blocks.get();
  info.layer_blocks = sb.layer_blocks.get();
  info.layer_count = sb.layer_count.get();
  info.image_count = sb.image_count.get();
  if (sb.keep.get() != 0) info.keep = sb.keep.get() - 1;
  LCFS_TRY(parse_written(sb, bytes, check.skip_checksum, info));
  return info;
}

void encode_superblock(SuperblockInfo const& info, std::span<std::byte, kBlockSize> into) {
  Superblock sb{};
  sb.magic = kSuperMagic;
  sb.superblock_size.set(sizeof(Superblock));
  sb.block_bits = kBlockBits;
  sb.node_bits = kNodeBits;
  sb.version.set(kFormatVersion);
  sb.slot.set(info.slot);
  sb.compat.set(info.compat);
  sb.ro_compat.set(info.ro_compat);
  sb.incompat.set(info.incompat);
  sb.uuid = info.uuid;
  sb.hash_seed = info.hash_seed;
  std::copy_n(info.label.begin(), std::min(info.label.size(), sb.label.size()), sb.label.begin());
  sb.generation.set(info.generation);
  sb.total_blocks.set(info.total_blocks);
  sb.store_root = info.store_root;
  sb.next_id.set(info.next_id);
  sb.next_inode.set(info.next_inode);
  sb.created_ns.set(info.created_ns);
  sb.written_ns.set(info.written_ns);
  sb.store_tree_blocks.set(info.store_tree_blocks);
  sb.layer_blocks.set(info.layer_blocks);
  sb.layer_count.set(info.layer_count);
  sb.image_count.set(info.image_count);
  sb.keep.set(info.keep ? *info.keep + 1 : 0);
  auto const runs = std::as_bytes(
      std::span{info.written}.first(std::min<std::size_t>(info.written.size(), kMaxWritten)));
  sb.written_count.set(static_cast<std::uint32_t>(runs.size() / sizeof(WrittenRun)));
  sb.written_checksum.set(runs.empty() ? 0 : crc32c(runs));
  sb.checksum.set(crc32c(std::as_bytes(std::span{&sb, 1}).subspan(kChecksumFrom)));
  std::fill(into.begin(), into.end(), std::byte{0});
  std::memcpy(into.data(), &sb, sizeof sb);
  if (!runs.empty()) std::memcpy(into.data() + sizeof sb, runs.data(), runs.size());
}

std::string uuid_text(Uuid const& uuid) {
  std::string out;
  for (std::size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) out += '-';
    out += fmt::format("{:02x}", uuid[i]);
  }
  return out;
}

Result<Uuid> parse_uuid(std::string_view text) {
  auto const bad = [text] { return Error::invalid(fmt::format("\"{}\" is not a UUID", text)); };
  if (text.size() != 36) return bad();
  Uuid uuid{};
  std::size_t digits = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char const c = text[i];
    if (i == 8 || i == 13 || i == 18 || i == 23) {
      if (c != '-') return bad();
      continue;
    }
    int digit = 0;
    if (c >= '0' && c <= '9')
      digit = c - '0';
    else if (c >= 'a' && c <= 'f')
      digit = c - 'a' + 10;
    else if (c >= 'A' && c <= 'F')
      digit = c - 'A' + 10;
    else
      return bad();
    auto& byte = uuid[digits++ / 2];
    byte = static_cast<std::uint8_t>(byte << 4 | digit);
  }
  return uuid;
}

}  // namespace lcfs::format
