// SPDX-License-Identifier: Apache-2.0
// The stream of a skeleton (engine/skeleton.h).  It is written into a log while a layer is imported
// (bounded memory), put into the layer's own blocks when the layer is stacked, and decoded again.
// Specification: doc/format.md, "Skeleton".
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/import/content_log.h"
#include "engine/skeleton.h"
#include "engine/types.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace lcfs {

// Any pieces, then finish().  One thread.
class SkeletonWriter {
 public:
  SkeletonWriter(SpaceMap& space, Device& device);
  ~SkeletonWriter();

  Status literal(std::span<std::byte const> bytes);
  // Files come in ascending order.
  Status body(std::uint64_t file, std::uint64_t offset, std::uint64_t length);
  Status finish();

  // After finish().  0: it grew beyond kMaxSkeleton and was given up; the log is empty then.
  [[nodiscard]] std::uint64_t size() const { return given_up_ ? 0 : log_.end(); }
  [[nodiscard]] ContentLog& log() { return log_; }

 private:
  void number(std::uint64_t value);
  void end_literal();
  Status spill();
  Status compress(bool end);

  ContentLog log_;
  std::vector<std::byte> literal_{};  // of the piece being put together
  std::vector<std::byte> raw_{};      // pieces not compressed yet
  std::vector<std::byte> out_{};
  std::uint64_t file_ = 0;  // named last
  bool given_up_ = false;
  struct Free {
    void operator()(ZSTD_CCtx_s* context) const;
  };
  std::unique_ptr<ZSTD_CCtx_s, Free> zstd_{};  // none as long as all fits into raw_
};

// The pieces of a stream.  `read` returns its next bytes, none at the end; they are valid until it
// is called again.  The stream is not trusted: errors are kCorrupt.
class SkeletonDecoder {
 public:
  using Read = std::function<Result<std::span<std::byte const>>()>;
  explicit SkeletonDecoder(Read read);
  ~SkeletonDecoder();

  Result<SkeletonPiece> next();

 private:
  Result<bool> fill();  // false: the stream is over
  Result<std::uint64_t> number();

  Read read_;
  std::span<std::byte const> in_{};
  std::vector<std::byte> out_{};
  std::size_t at_ = 0, end_ = 0;  // of out_: what was not taken yet
  std::uint64_t literal_ = 0;     // bytes of the piece at hand still to come
  std::uint64_t file_ = 0;
  bool frame_done_ = false;
  struct Free {
    void operator()(ZSTD_DCtx_s* context) const;
  };
  std::unique_ptr<ZSTD_DCtx_s, Free> zstd_;
};

}  // namespace lcfs
