// SPDX-License-Identifier: Apache-2.0
// Repairs file data that fails its checksum from the archive that the layer was made from.
//
// Used by fsck (look() finds the damage) and for a store in use (heal/blocks.h, which knows it).
// The caller offers the files of the archive in any order.  A block at the same offset of the same
// file with the recorded checksum is written back to its place.  This is the only write in place
// (I1, I2): the checksum proves that the new bytes are those that every tree with this block
// expects, and the overwritten bytes are not.
// Memory: about 100 bytes per damaged block and name.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "device/device.h"
#include "fsck/check.h"
#include "fsck/vocabulary.h"

namespace lcfs::fsck {

class Healer {
 public:
  explicit Healer(Device& device) : device_(device), buffer_(kBlockSize) {}
  // Checks the store (set options.data) and registers its damaged blocks.  Errors as check().
  static Result<std::unique_ptr<Healer>> look(Device& device, Options const& options);

  // Registers `block`, which must hold the 4096 bytes with checksum `sum` at that offset of that
  // file.  It may be registered several times, once for each name of its file.
  void want(std::string_view path, std::uint64_t file_offset, std::uint64_t block,
            std::uint32_t sum);

  [[nodiscard]] Report const& report() const { return report_; }  // of look(), before the repair
  [[nodiscard]] std::uint64_t damaged() const { return blocks_.size(); }
  [[nodiscard]] std::uint64_t healed() const { return healed_; }

  // Offers one file after the other, with its bytes in order.  Paths may begin with "/" or "./".
  // False: none of its blocks is damaged, so its bytes may be omitted.
  bool begin_file(std::string_view path);
  Status data(std::span<std::byte const> bytes);
  Status hole(std::uint64_t length);
  Status end_file();
  Status finish();  // makes the repairs durable

 private:
  struct Wanted {
    std::uint64_t block = 0;
    std::uint32_t sum = 0;
  };
  using File = std::multimap<std::uint64_t, Wanted>;  // by file offset

  Status end_block();

  Device& device_;
  Report report_{};
  std::unordered_map<std::string, File> files_;  // by path, without a slash in front
  std::map<std::uint64_t, bool> blocks_;         // damaged ones; true: healed
  std::uint64_t healed_ = 0;
  File const* file_ = nullptr;  // the current one; null: none of its blocks is damaged
  std::uint64_t offset_ = 0;    // in it
  AlignedBuffer buffer_;        // its current block
};

}  // namespace lcfs::fsck
