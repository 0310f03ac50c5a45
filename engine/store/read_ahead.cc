// SPDX-License-Identifier: Apache-2.0
#include "engine/store/read_ahead.h"

#include <algorithm>
#include <cstring>

namespace lcfs {
namespace {

// Judgement is passed on this many bytes; when less than a sixteenth of them was wanted, reading
// ahead rests for a while.
constexpr std::uint64_t kJudged = 32 * ReadAheadDevice::kChunk;
constexpr std::uint64_t kWorth = 16;
constexpr std::uint64_t kRest = 1024;

}  // namespace

ReadAheadDevice::ReadAheadDevice(Device& below, std::uint64_t bytes)
    : below_(below), most_(bytes / kChunk) {}
ReadAheadDevice::~ReadAheadDevice() = default;

Status ReadAheadDevice::read_around(std::uint64_t offset, std::span<std::byte> into) {
  while (!into.empty()) {
    std::size_t const n =
        static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), kChunk - offset % kChunk));
    LCFS_TRY(read_part(offset, into.first(n)));
    offset += n;
    into = into.subspan(n);
  }
  return {};
}

// `into` lies in one chunk.
Status ReadAheadDevice::read_part(std::uint64_t offset, std::span<std::byte> into) {
  std::uint64_t const number = offset / kChunk;
  std::uint64_t const begin = number * kChunk;
  std::uint64_t const size = begin < below_.size() ? std::min(kChunk, below_.size() - begin) : 0;
  if (most_ == 0 || offset - begin > size || into.size() > size - (offset - begin))
    return below_.read(offset, into);
  ChunkPtr chunk;
  bool ours = false;
  {
    Lock lock(mu_);
    if (auto const it = chunks_.find(number); it != chunks_.end()) {
      chunk = it->second;
      chunk->age = ++clock_;
      chunk->used += into.size();
      if (chunk->loading)
        chunk = nullptr;  // not waited for: who reads it may be slower than the device
    } else if (rest_ != 0) {
      --rest_;
    } else {
      make_room();
      chunk = std::make_shared<Chunk>();
      chunk->age = ++clock_;
      chunk->used = into.size();
      chunk->loading = ours = true;
      chunks_.emplace(number, chunk);
    }
  }
  if (!chunk) return below_.read(offset, into);
  if (!ours) {
    std::memcpy(into.data(), chunk->bytes.data() + (offset - begin), into.size());
    return {};
  }
  AlignedBuffer bytes(static_cast<std::size_t>(size));
  auto const done = below_.read(begin, bytes.span());
  if (done) std::memcpy(into.data(), bytes.data() + (offset - begin), into.size());
  {
    Lock lock(mu_);
    chunk->loading = false;
    if (done && !chunk->stale) {
      chunk->bytes = std::move(bytes);
    } else if (auto const it = chunks_.find(number); it != chunks_.end() && it->second == chunk) {
      chunks_.erase(it);
    }
  }
  // A bad sector beside what was asked for is nobody's fault.
  return done ? Status{} : below_.read(offset, into);
}

void ReadAheadDevice::make_room() {
  while (chunks_.size() >= most_) {
    auto oldest = chunks_.end();
    for (auto it = chunks_.begin(); it != chunks_.end(); ++it) {  // a few dozen
      if (!it->second->loading &&
          (oldest == chunks_.end() || it->second->age < oldest->second->age))
        oldest = it;
    }
    if (oldest == chunks_.end()) return;  // all are being read: as many as there are threads
    judge(*oldest->second);
    chunks_.erase(oldest);
  }
}

void ReadAheadDevice::judge(Chunk const& chunk) {
  wanted_ += std::min(chunk.used, kChunk);
  read_ += kChunk;
  if (read_ < kJudged) return;
  if (wanted_ < read_ / kWorth) rest_ = kRest;
  wanted_ = read_ = 0;
}

Status ReadAheadDevice::write(std::uint64_t offset, std::span<iovec const> parts) {
  auto done = below_.write(offset, parts);
  Lock lock(mu_);
  if (chunks_.empty()) return done;
  std::uint64_t bytes = 0;
  for (auto const& p : parts) bytes += p.iov_len;
  if (bytes == 0) return done;
  for (std::uint64_t number = offset / kChunk; number <= (offset + bytes - 1) / kChunk; ++number) {
    auto const it = chunks_.find(number);
    if (it == chunks_.end()) continue;
    it->second->stale = true;
    chunks_.erase(it);
  }
  return done;
}

void ReadAheadDevice::drop() {
  Lock lock(mu_);
  std::erase_if(chunks_, [](auto const& entry) { return !entry.second->loading; });
}

std::uint64_t ReadAheadDevice::bytes() const {
  Lock lock(mu_);
  return chunks_.size() * kChunk;
}

}  // namespace lcfs
