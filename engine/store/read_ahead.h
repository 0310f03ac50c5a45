// SPDX-License-Identifier: Apache-2.0
// A device that can read the surroundings of a request, and keeps them for a short while: small
// files that were written together are neighbours, and are mostly read together too.
//
// Coherence: every write of the store passes here.  What it overwrites is forgotten when it
// returns, and a chunk that was being read meanwhile is not kept.  Nobody reads blocks that are
// being written: they are in memory until then.
//
// Threads: as any device.  One mutex, never held across I/O.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>

#include "device/device.h"
#include "engine/locks/lock_order.h"
#include "engine/types.h"

namespace lcfs {

class ReadAheadDevice final : public Device {
 public:
  // Bytes that are read at once, and their alignment.
  static constexpr std::uint64_t kChunk = 128u << 10;

  // bytes: of memory for chunks; less than one: nothing is read ahead.
  ReadAheadDevice(Device& below, std::uint64_t bytes);
  ~ReadAheadDevice() override;

  // Like read(), with the surroundings where that has paid lately.
  Status read_around(std::uint64_t offset, std::span<std::byte> into);
  // Frees all chunks.
  void drop();
  [[nodiscard]] std::uint64_t bytes() const;  // in use

  using Device::write;
  [[nodiscard]] std::string const& name() const override { return below_.name(); }
  [[nodiscard]] std::uint64_t size() const override { return below_.size(); }
  Status read(std::uint64_t offset, std::span<std::byte> into) override {
    return below_.read(offset, into);
  }
  Status write(std::uint64_t offset, std::span<iovec const> parts) override;
  Status flush() override { return below_.flush(); }
  Status discard(std::uint64_t offset, std::uint64_t length) override {
    return below_.discard(offset, length);
  }
  Status reserve(std::uint64_t offset, std::uint64_t length) override {
    return below_.reserve(offset, length);
  }
  Status release(std::uint64_t offset, std::uint64_t length) override {
    return below_.release(offset, length);
  }
  [[nodiscard]] bool always_backed() const override { return below_.always_backed(); }
  Status refresh_size() override { return below_.refresh_size(); }
  Status resize(std::uint64_t new_size) override { return below_.resize(new_size); }

 private:
  struct Chunk {
    AlignedBuffer bytes{};
    std::uint64_t age = 0;   // when it was last of use
    std::uint64_t used = 0;  // bytes of it that were asked for
    bool loading = false, stale = false;
  };
  using ChunkPtr = std::shared_ptr<Chunk>;

  Status read_part(std::uint64_t offset, std::span<std::byte> into);
  void make_room() LCFS_REQUIRES(mu_);
  void judge(Chunk const& chunk) LCFS_REQUIRES(mu_);

  Device& below_;
  std::uint64_t const most_;  // chunks
  mutable Mutex mu_ LCFS_LEVEL(read_ahead);
  std::unordered_map<std::uint64_t, ChunkPtr> chunks_
      LCFS_GUARDED_BY(mu_);  // by number; constant bytes once loaded
  std::uint64_t clock_ LCFS_GUARDED_BY(mu_) = 0;
  // Chunks that went lately: bytes that were asked for, and bytes that were read.
  std::uint64_t wanted_ LCFS_GUARDED_BY(mu_) = 0, read_ LCFS_GUARDED_BY(mu_) = 0;
  std::uint64_t rest_ LCFS_GUARDED_BY(mu_) = 0;  // reads to come without surroundings
};

}  // namespace lcfs
