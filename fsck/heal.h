// SPDX-License-Identifier: Apache-2.0
// File data that fails its checksum, found again in what the layer was made from.
//
// Used by fsck (look() finds what is damaged) and beneath a running store (verify/heal.h, which
// knows already). Whoever has the archive offers its files, in any order; of those that lost
// blocks, at the same offsets, blocks whose checksum is the recorded one are written back where
// they were.  That is the one write in place there is (I1, I2): such a block holds by its checksum
// what every tree that reaches it says it holds, and what it overwrites is not that.
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

namespace lcfs::fsck {

class Healer {
 public:
  explicit Healer(Device& device) : device_(device), buffer_(kBlockSize) {}
  // Checks the store (options.data is meant) and wants what is damaged.  Errors as check().
  static Result<std::unique_ptr<Healer>> look(Device& device, Options const& options);

  // `block`, at that offset of that file, is to hold 4096 bytes with that checksum.  A block may be
  // wanted several times, for each name that its file has.
  void want(std::string_view path, std::uint64_t file_offset, std::uint64_t block,
            std::uint32_t sum);

  [[nodiscard]] Report const& report() const {
    return report_;
  }  // of look(): before anything was healed
  [[nodiscard]] std::uint64_t damaged() const { return blocks_.size(); }
  [[nodiscard]] std::uint64_t healed() const { return healed_; }

  // One file after the other, its bytes in order.  Paths from "/", "./" or neither.  False: nothing
  // of it is wanted, its bytes may be left out.
  bool begin_file(std::string_view path);
  Status data(std::span<std::byte const> bytes);
  Status hole(std::uint64_t length);
  Status end_file();
  Status finish();  // what was healed is durable

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
  File const* file_ = nullptr;  // the one that comes by; null: nobody wants it
  std::uint64_t offset_ = 0;    // in it
  AlignedBuffer buffer_;        // its block in hand
};

}  // namespace lcfs::fsck
