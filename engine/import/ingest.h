// SPDX-License-Identifier: Apache-2.0
// The inside of an Ingest: places the data of one layer that is being imported.  The contract is in
// engine/import.h.
#pragma once

#include <vector>

#include "engine/import.h"
#include "engine/import/content_log.h"
#include "engine/import/skeleton_stream.h"
#include "engine/import/write_queue.h"
#include "engine/space/owner_space.h"
#include "engine/store/store_impl.h"

namespace lcfs {

// A content handle is an offset in the log, + 1.  There is a tag byte, then
//   kInlineContent: u32 size, the bytes
//   kExtentContent: any number of PlacedExtent with its checksums (u32 each); one with count 0 ends
//                   them
inline constexpr std::byte kInlineContent{1};
inline constexpr std::byte kExtentContent{2};
struct PlacedExtent {
  std::uint64_t file_offset = 0;  // bytes
  std::uint64_t block = 0;
  std::uint32_t count = 0;  // 0..kMaxExtentBlocks
  std::uint32_t pad = 0;
};

class IngestImpl {
 public:
  IngestImpl(StoreImpl& store, WriteQueue& queue);
  ~IngestImpl();

  [[nodiscard]] Delta& delta() { return delta_; }
  void begin_content(std::uint64_t size);
  Status append(std::span<std::byte const> data);
  Status append_hole(std::uint64_t length);
  Result<Content> end_content();
  void keep_tar();
  Status tar_literal(std::span<std::byte const> bytes);
  Status tar_body(std::uint64_t offset, std::uint64_t length);
  Status finish();

  Status read_placed(PlacedFileReader& reader);

  // For the stacker
  [[nodiscard]] ContentLog& log() { return log_; }
  // Null: keep_tar() was not called.
  [[nodiscard]] SkeletonWriter* skeleton() { return skeleton_.get(); }
  [[nodiscard]] OwnerSpace& space() { return space_; }
  // The blocks placed so far.  The caller owns them from now on.
  std::vector<Extent> take_blocks();

 private:
  Status open_buffer();
  void submit_buffer();
  Status place_block();                                  // the block at used_ is complete
  Status place_blocks(std::span<std::byte const> data);  // whole blocks at a block boundary
  Status leave_small();
  Status read_extents(std::uint64_t at, PlacedFileReader& reader);
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
