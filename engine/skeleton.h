// SPDX-License-Identifier: Apache-2.0
// The skeleton of a tar: all of it that the tree made of it does not give back - headers, padding,
// order, what follows the end - with the places of the files' bodies.  Skeleton and bodies together
// are the tar, byte for byte. Specification of the stream: doc/format.md, "Skeleton".
//
// Written while a layer comes in, into a log (bounded memory); put into the layer's own blocks when
// it is stacked.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/content_log.h"
#include "engine/types.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace lcfs {

class Store;
class Layer;

// One piece of a tar.
struct SkeletonPiece {
  enum Kind : std::uint8_t { kEnd, kLiteral, kBody };
  Kind kind = kEnd;
  std::span<std::byte const> bytes{};    // kLiteral: valid until the next call
  std::uint64_t file = 0;                // kBody: number of the file in the layer's delta
  std::uint64_t offset = 0, length = 0;  // kBody: which bytes of it
};

// Any pieces, then finish().  One thread.
class SkeletonWriter {
 public:
  SkeletonWriter(SpaceMap& space, Device& device);
  ~SkeletonWriter();

  Status literal(std::span<std::byte const> bytes);
  // Files come in ascending order.
  Status body(std::uint64_t file, std::uint64_t offset, std::uint64_t length);
  Status finish();

  // After finish().  0: it grew beyond kMaxSkeleton and was given up; nothing is in the log then.
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

// The pieces of a stream that comes from `read`, which returns its next bytes, none at the end,
// valid until it is called again. Nothing the stream says is believed: errors are kCorrupt.
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

// Blocks that hold a part of a skeleton.
struct SkeletonExtent {
  std::uint64_t block = 0;
  std::vector<std::uint32_t> sums{};  // crc32c of each block, at most kMaxExtentBlocks
};

// The skeleton of a layer in a store.  Holds the layer, so it may be removed meanwhile.  One
// thread.
class Skeleton {
 public:
  // Null: the layer has none.
  static Result<std::unique_ptr<Skeleton>> open(Store& store, LayerId layer);

  [[nodiscard]] BlobInfo const& blob() const { return info_.blob; }
  [[nodiscard]] Inode inode_of(std::uint64_t file) const { return info_.first_inode + file; }
  // kCorrupt with the layer's name: a checksum or the stream is wrong.
  Result<SkeletonPiece> next();

 private:
  Skeleton(Store& store, std::shared_ptr<Layer> layer, std::string name, SkeletonInfo info);
  Result<std::span<std::byte const>> read();
  Store& store_;
  std::shared_ptr<Layer> layer_;
  std::string name_;
  SkeletonInfo info_;
  std::vector<SkeletonExtent> extents_{};
  std::size_t next_ = 0;    // extent to read
  std::uint64_t left_ = 0;  // bytes of the stream still to read
  AlignedBuffer buffer_{};
  SkeletonDecoder decoder_;
};

}  // namespace lcfs
