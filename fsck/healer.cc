// SPDX-License-Identifier: Apache-2.0
#include "fsck/healer.h"

#include <algorithm>
#include <cstring>

#include "format/hash.h"
#include "fsck/paths.h"
#include "fsck/survey.h"

namespace lcfs::fsck {
namespace {

constexpr std::size_t kMostNames = 64;  // limit of names per file

std::string_view plain(std::string_view path) {
  while (path.starts_with('/') || path.starts_with("./"))
    path.remove_prefix(path.starts_with('/') ? 1 : 2);
  return path;
}

}  // namespace

Result<std::unique_ptr<Healer>> Healer::look(Device& device, Options const& options) {
  auto how = options;
  how.collect = how.data = true;
  LCFS_TRY_ASSIGN(auto survey, inspect(device, how, {}));
  auto healer = std::make_unique<Healer>(device);
  for (auto const& [id, facts] : survey.layers) {
    auto const* layer = survey.scan->layer(id);
    for (auto const& b : facts.bad) {
      healer->blocks_[b.block] = false;
      for (auto const& path :
           paths_of(*survey.source, layer->info.root, layer->info.root_inode, b.inode, kMostNames))
        healer->want(path, b.file_offset, b.block, b.expected);
    }
  }
  healer->report_ = std::move(survey.report);
  return healer;
}

void Healer::want(std::string_view path, std::uint64_t file_offset, std::uint64_t block,
                  std::uint32_t sum) {
  blocks_.emplace(block, false);
  files_[std::string(plain(path))].emplace(file_offset, Wanted{block, sum});
}

bool Healer::begin_file(std::string_view path) {
  auto const it = files_.find(std::string(plain(path)));
  file_ = it == files_.end() ? nullptr : &it->second;
  offset_ = 0;
  return file_ != nullptr;
}

// The block in the buffer is full, or the file ended and its rest is zero.
Status Healer::end_block() {
  auto const from = (offset_ - 1) / kBlockSize * kBlockSize;
  auto const [first, last] = file_->equal_range(from);
  for (auto it = first; it != last; ++it) {
    auto& done = blocks_.at(it->second.block);
    if (done || crc32c(buffer_.span()) != it->second.sum) continue;
    LCFS_TRY(
        device_.write(it->second.block * kBlockSize, std::span<std::byte const>(buffer_.span())));
    done = true;
    ++healed_;
  }
  return {};
}

Status Healer::data(std::span<std::byte const> bytes) {
  if (file_ == nullptr) return {};
  while (!bytes.empty()) {
    auto const into = offset_ % kBlockSize;
    auto const n = std::min<std::size_t>(bytes.size(), kBlockSize - into);
    std::memcpy(buffer_.data() + into, bytes.data(), n);
    bytes = bytes.subspan(n);
    offset_ += n;
    if (offset_ % kBlockSize == 0) {
      LCFS_TRY(end_block());
    }
  }
  return {};
}

Status Healer::hole(std::uint64_t length) {
  if (file_ == nullptr || length == 0) return {};
  auto const into = offset_ % kBlockSize;
  if (into != 0) {
    auto const n = std::min<std::uint64_t>(length, kBlockSize - into);
    std::memset(buffer_.data() + into, 0, n);
    offset_ += n;
    length -= n;
    if (offset_ % kBlockSize != 0) return {};
    LCFS_TRY(end_block());
  }
  // Blocks of zeroes are not stored, so none of them is damaged.
  std::memset(buffer_.data(), 0, length % kBlockSize);
  offset_ += length;
  return {};
}

Status Healer::end_file() {
  if (file_ == nullptr || offset_ % kBlockSize == 0) return {};
  std::memset(buffer_.data() + offset_ % kBlockSize, 0, kBlockSize - offset_ % kBlockSize);
  LCFS_TRY(end_block());
  return {};
}

Status Healer::finish() { return healed_ == 0 ? Status{} : device_.flush(); }

}  // namespace lcfs::fsck
