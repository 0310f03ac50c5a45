// SPDX-License-Identifier: Apache-2.0
// Verifies file data against its checksums: collects extents, then reads them in the order of the
// device, with several threads.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "device/device.h"
#include "format/records.h"
#include "fsck/vocabulary.h"

namespace lcfs::fsck {

struct BadBlock {
  std::uint64_t inode = 0;
  std::uint64_t file_offset = 0;  // bytes
  std::uint64_t block = 0;
  std::uint32_t expected = 0, found = 0;
  int sys = 0;  // errno if it could not be read at all
  bool unread = false;
};

// Memory: 4 bytes per collected block plus 40 per extent, at most kBatchBlocks blocks (16 GiB of
// data: 16 MiB).
class DataCheck {
 public:
  DataCheck(Device& device, unsigned threads, std::function<void(BadBlock const&)> bad)
      : device_(device), threads_(threads), bad_(std::move(bad)) {}

  void add(ExtentInfo const& extent, std::uint64_t inode, std::uint64_t file_offset);
  // Checks everything added since the last flush().  Calls `bad` from this thread, in order of
  // blocks.
  void flush();
  [[nodiscard]] std::uint64_t blocks_checked() const { return checked_; }

 private:
  static constexpr std::size_t kBatchBlocks = 1u << 22;
  static constexpr std::uint64_t kReadBlocks = 256;  // of one read: 1 MiB
  struct Item {
    std::uint64_t block = 0, inode = 0, file_offset = 0;
    std::size_t sums = 0;  // index of its first checksum
    std::uint32_t count = 0;
  };
  struct Read {
    std::uint64_t block = 0, count = 0;
    std::size_t from = 0, to = 0;  // items
  };
  void run_reads(std::vector<Read> const& reads, std::vector<BadBlock>& bad);
  void check_read(Read const& read, AlignedBuffer& buffer, std::vector<BadBlock>& bad);

  Device& device_;
  unsigned threads_;
  std::function<void(BadBlock const&)> bad_;
  std::vector<Item> items_;
  std::vector<le32> sums_;
  std::uint64_t checked_ = 0;
};

}  // namespace lcfs::fsck
