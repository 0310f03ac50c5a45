// SPDX-License-Identifier: Apache-2.0
#include "fsck/data_check.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "format/hash.h"

namespace lcfs::fsck {

void DataCheck::add(ExtentInfo const& extent, std::uint64_t inode, std::uint64_t file_offset) {
  items_.push_back({extent.block, inode, file_offset, sums_.size(), extent.count});
  sums_.insert(sums_.end(), extent.checksums.begin(), extent.checksums.end());
  if (sums_.size() >= kBatchBlocks) flush();
}

void DataCheck::flush() {
  std::sort(items_.begin(), items_.end(),
            [](Item const& a, Item const& b) { return a.block < b.block; });
  // Adjacent items are read together.  Items that overlap (damage, or a repeated inherited extent)
  // share a read as well.
  std::vector<Read> reads;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    auto const& item = items_[i];
    if (!reads.empty()) {
      auto& last = reads.back();
      auto const into = item.block - last.block;
      if (into <= last.count && into + item.count <= kReadBlocks) {
        last.count = std::max(last.count, into + item.count);
        last.to = i + 1;
        continue;
      }
    }
    reads.push_back({item.block, item.count, i, i + 1});
  }
  std::vector<BadBlock> bad;
  run_reads(reads, bad);
  std::sort(bad.begin(), bad.end(),
            [](BadBlock const& a, BadBlock const& b) { return a.block < b.block; });
  for (auto const& b : bad) bad_(b);
  checked_ += sums_.size();
  items_.clear();
  sums_.clear();
}

void DataCheck::run_reads(std::vector<Read> const& reads, std::vector<BadBlock>& bad) {
  std::atomic<std::size_t> next{0};
  std::mutex mutex;  // guards `bad`
  auto const work = [&] {
    AlignedBuffer buffer(kReadBlocks * kBlockSize);
    std::vector<BadBlock> mine;
    for (auto i = next++; i < reads.size(); i = next++) check_read(reads[i], buffer, mine);
    std::lock_guard const lock(mutex);
    bad.insert(bad.end(), mine.begin(), mine.end());
  };
  // A handful of reads is not worth a thread: most layers are small.
  auto const helpers = std::min<std::size_t>(threads_ > 0 ? threads_ - 1 : 0, reads.size() / 8);
  std::vector<std::thread> threads;
  threads.reserve(helpers);
  for (std::size_t t = 0; t < helpers; ++t) threads.emplace_back(work);
  if (!reads.empty()) work();
  for (auto& t : threads) t.join();
}

void DataCheck::check_read(Read const& read, AlignedBuffer& buffer, std::vector<BadBlock>& bad) {
  auto const whole =
      device_.read(read.block * kBlockSize, buffer.span().first(read.count * kBlockSize));
  for (auto i = read.from; i < read.to; ++i) {
    auto const& item = items_[i];
    for (std::uint32_t b = 0; b < item.count; ++b) {
      auto const block = item.block + b;
      auto const bytes = buffer.span().subspan((block - read.block) * kBlockSize, kBlockSize);
      BadBlock result{item.inode, item.file_offset + std::uint64_t{b} * kBlockSize,
                      block,      sums_[item.sums + b].get(),
                      0,          0,
                      false};
      // One bad sector must not hide what the rest of a large read holds.
      if (!whole) {
        if (auto one = device_.read(block * kBlockSize, bytes); !one) {
          result.sys = one.error().sys;
          result.unread = true;
          bad.push_back(result);
          continue;
        }
      }
      result.found = crc32c(bytes);
      if (result.found != result.expected) bad.push_back(result);
    }
  }
}

}  // namespace lcfs::fsck
