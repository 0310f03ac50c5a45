// SPDX-License-Identifier: Apache-2.0
// The engine's Ingest: data placement of one incoming layer.  See engine/import.h for the contract.
#pragma once

#include <vector>

#include "engine/content_log.h"
#include "engine/import.h"
#include "engine/owner_space.h"
#include "engine/skeleton.h"
#include "engine/store_impl.h"
#include "engine/write_queue.h"

namespace lcfs {

// What a content handle (log offset + 1) leads to: a tag byte, then
//   kInlineContent: u32 size, the bytes
//   kExtentContent: PlacedExtent and its checksums (u32 each), again and again; a PlacedExtent with
//   count 0 ends it
inline constexpr std::byte kInlineContent{1};
inline constexpr std::byte kExtentContent{2};
struct PlacedExtent {
  std::uint64_t file_offset = 0;  // bytes
  std::uint64_t block = 0;
  std::uint32_t count = 0;  // 0..kMaxExtentBlocks
  std::uint32_t pad = 0;
};

class IngestImpl final : public Ingest {
 public:
  IngestImpl(StoreImpl& store, WriteQueue& queue);
  ~IngestImpl() override;

  [[nodiscard]] Delta& delta() override { return delta_; }
  void begin_content(std::uint64_t size) override;
  Status append(std::span<std::byte const> data) override;
  Status append_hole(std::uint64_t length) override;
  Result<Content> end_content() override;
  void keep_tar() override;
  Status tar_literal(std::span<std::byte const> bytes) override;
  Status tar_body(std::uint64_t offset, std::uint64_t length) override;
  Status finish() override;

  // For the stacker
  [[nodiscard]] ContentLog& log() { return log_; }
  // Null: it was not asked for.
  [[nodiscard]] SkeletonWriter* skeleton() { return skeleton_.get(); }
  [[nodiscard]] OwnerSpace& space() { return space_; }
  // The blocks placed so far; the caller owns them from now on.
  std::vector<Extent> take_blocks();

 private:
  Status open_buffer();
  void submit_buffer();
  Status place_block();                                  // the block at fill_ is complete
  Status place_blocks(std::span<std::byte const> data);  // whole blocks at a block boundary
  Status leave_small();
  Status end_run();
  void log_bytes(void const* data, std::size_t size);

  StoreImpl& store_;
  WriteQueue& queue_;
  Delta delta_;
  OwnerSpace space_;
  ContentLog log_;
  std::unique_ptr<SkeletonWriter> skeleton_{};
  bool finished_ = false;
  WriteQueue::Sink sink_;

  AlignedBuffer buffer_;     // of the run of blocks being filled
  Extent blocks_{};          // where it goes
  std::size_t used_ = 0;     // bytes of it that are placed, whole blocks
  std::size_t partial_ = 0;  // bytes of the block behind them

  // The file
  std::uint64_t offset_ = 0;   // bytes of it so far
  std::uint64_t content_ = 0;  // log offset where its record begins
  bool small_ = true;          // nothing placed yet: all of it is in small_data_
  bool known_large_ = false;
  std::vector<std::byte> small_data_;
  bool any_extent_ = false;
  std::uint64_t placed_ = 0;  // blocks of the file
  PlacedExtent run_{};
  std::vector<std::uint32_t> sums_;
  std::vector<std::byte> scratch_;  // record being put together
};

}  // namespace lcfs
