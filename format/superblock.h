// SPDX-License-Identifier: Apache-2.0
// The superblock: parsed once into a type that means "checked", and written back.
// Specification: doc/format.md, "Superblock".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "format/layout.h"

namespace lcfs::format {

using Uuid = std::array<std::uint8_t, 16>;

// A superblock whose fields are all in range.
struct SuperblockInfo {
  std::uint32_t slot = 0;
  std::uint64_t compat = 0, ro_compat = 0, incompat = 0;
  Uuid uuid{};
  std::array<std::uint8_t, 16> hash_seed{};
  std::string label{};  // at most 64 bytes
  std::uint64_t generation = 0;
  std::uint64_t total_blocks = 0;
  NodePtr store_root{};
  std::uint64_t next_id = 1;
  std::uint64_t next_inode = 1;
  std::int64_t created_ns = 0;
  std::int64_t written_ns = 0;
  std::uint64_t store_tree_blocks = 0;
  std::uint64_t layer_blocks = 0;
  std::uint64_t layer_count = 0;
  std::uint64_t image_count = 0;
  // Restore points to keep, at most kMaxKept; nothing: the writer's choice.
  std::optional<std::uint32_t> keep{};
  std::vector<WrittenRun> written{};  // at most kMaxWritten; see doc/format.md, "Which slot"
  bool written_torn = false;  // the runs fail written_checksum, so this superblock is no checkpoint

  // ro_compat bits that this lcfs doesn't know: open read-only.
  [[nodiscard]] bool read_only_features() const { return (ro_compat & ~kKnownRoCompat) != 0; }
};

struct SuperblockCheck {
  std::uint32_t slot = 0;         // where the bytes came from
  std::uint64_t device_size = 0;  // bytes; total_blocks must fit
  bool skip_checksum = false;     // fuzzing only
};

// `bytes`: the first bytes of the slot, normally kBlockSize of them.  Errors: kInvalid "not an lcfs
// store" if the magic is missing, kUnsupported for features and versions, kCorrupt for the rest,
// with the offset of the field in the slot.
Result<SuperblockInfo> parse_superblock(std::span<std::byte const> bytes,
                                        SuperblockCheck const& check);

// The kBlockSize bytes of `info` for its slot, checksum set.
void encode_superblock(SuperblockInfo const& info, std::span<std::byte, kBlockSize> into);

// True if `bytes` has the size and the checksum of the run.
[[nodiscard]] bool holds(WrittenRun const& run, std::span<std::byte const> bytes);

// UUID text, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx".
std::string uuid_text(Uuid const& uuid);
Result<Uuid> parse_uuid(std::string_view text);

}  // namespace lcfs::format
