// SPDX-License-Identifier: Apache-2.0
#include "engine/import/ingest.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "base/zero.h"
#include "engine/import/delta_impl.h"
#include "format/hash.h"

namespace lcfs {

// The layer has no id yet: a parent must have a smaller one than its children, and blobs arrive in
// any order.
IngestImpl::IngestImpl(StoreImpl& store, WriteQueue& queue)
    : store_(store), queue_(queue), space_(store.space, 0), log_(store.space, store.device) {
  small_data_.reserve(kInlineMax + 1);
}

IngestImpl::~IngestImpl() {
  (void)queue_.wait(sink_);
  if (buffer_) queue_.return_buffer(std::move(buffer_));
  // No checkpoint names them, and no write to them is under way: they are free at once.
  store_.space.give_back(space_.take_allocated(), false);
}

std::vector<Extent> IngestImpl::take_blocks() {
  space_.return_chunks();
  return space_.take_allocated();
}

void IngestImpl::log_bytes(void const* data, std::size_t size) {
  auto const* p = static_cast<std::byte const*>(data);
  scratch_.insert(scratch_.end(), p, p + size);
}

Status IngestImpl::open_buffer() {
  LCFS_TRY(queue_.check(sink_));
  LCFS_TRY(store_.room.make_slack(4096));
  auto got = space_.allocate_data(WriteQueue::kBuffer / kBlockSize);
  if (!got && got.error().code == Errc::kNoSpace && store_.space.counts().pending != 0) {
    LCFS_TRY(store_.room.make());
    got = space_.allocate_data(WriteQueue::kBuffer / kBlockSize);
  }
  if (!got) return std::move(got).error();
  blocks_ = *got;
  if (!buffer_) buffer_ = queue_.take_buffer();
  used_ = 0;
  return {};
}

void IngestImpl::submit_buffer() {
  std::uint64_t const filled = used_ / kBlockSize;
  if (filled < blocks_.count) {
    Extent const rest{blocks_.start + filled, blocks_.count - filled};
    // Always among the last allocated, so this succeeds.  Otherwise the rest would be freed with
    // the layer's own blocks.
    if (!space_.unallocate(rest)) space_.free(rest);
  }
  if (used_ != 0) queue_.submit(blocks_.start * kBlockSize, std::move(buffer_), used_, sink_);
  blocks_ = {};
  used_ = 0;
}

void IngestImpl::begin_content(std::uint64_t size) {
  offset_ = 0;
  small_ = true;
  known_large_ = size > kInlineMax;
  small_data_.clear();
  any_extent_ = false;
  placed_ = 0;
  run_ = {};
  sums_.clear();
  scratch_.clear();
  content_ = log_.end();
}

Status IngestImpl::end_run() {
  if (run_.count == 0) return {};
  if (!any_extent_) scratch_.push_back(kExtentContent);
  any_extent_ = true;
  log_bytes(&run_, sizeof run_);
  log_bytes(sums_.data(), sums_.size() * sizeof(std::uint32_t));
  run_ = {};
  sums_.clear();
  if (scratch_.size() >= 64 * 1024) {
    LCFS_TRY(log_.append(scratch_));
    scratch_.clear();
  }
  return {};
}

// The block at used_ in the buffer is complete: drops it if it is zero, else adds its checksum and
// keeps it.  offset_ is at its end.
Status IngestImpl::place_block() {
  std::span<std::byte const> const block(buffer_.data() + used_, kBlockSize);
  std::uint64_t const at = offset_ - kBlockSize;
  if (is_zero(block)) return end_run();
  std::uint64_t const device_block = blocks_.start + used_ / kBlockSize;
  bool const goes_on = run_.count != 0 && run_.count < kMaxExtentBlocks &&
                       run_.block + run_.count == device_block &&
                       run_.file_offset + std::uint64_t{run_.count} * kBlockSize == at;
  if (!goes_on) {
    LCFS_TRY(end_run());
    run_ = {at, device_block, 0, 0};
  }
  sums_.push_back(crc32c(block));
  ++run_.count;
  ++placed_;
  used_ += kBlockSize;
  return {};
}

Status IngestImpl::place_blocks(std::span<std::byte const> data) {
  while (!data.empty()) {
    if (used_ == blocks_.count * kBlockSize) {
      if (blocks_.count != 0) submit_buffer();
      LCFS_TRY(open_buffer());
    }
    // A block of zeroes is found before it is copied.
    auto const block = data.first(kBlockSize);
    offset_ += kBlockSize;
    if (is_zero(block)) {
      LCFS_TRY(end_run());
    } else {
      std::memcpy(buffer_.data() + used_, block.data(), kBlockSize);
      LCFS_TRY(place_block());
    }
    data = data.subspan(kBlockSize);
  }
  return {};
}

Status IngestImpl::append(std::span<std::byte const> data) {
  if (small_) {
    if (!known_large_ && small_data_.size() + data.size() <= kInlineMax) {
      small_data_.insert(small_data_.end(), data.begin(), data.end());
      return {};
    }
    LCFS_TRY(leave_small());
  }
  while (!data.empty()) {
    if (partial_ == 0 && data.size() >= kBlockSize) {
      std::size_t const whole = data.size() / kBlockSize * kBlockSize;
      LCFS_TRY(place_blocks(data.first(whole)));
      data = data.subspan(whole);
      continue;
    }
    if (used_ == blocks_.count * kBlockSize) {
      if (blocks_.count != 0) submit_buffer();
      LCFS_TRY(open_buffer());
    }
    std::size_t const n = std::min<std::size_t>(data.size(), kBlockSize - partial_);
    std::memcpy(buffer_.data() + used_ + partial_, data.data(), n);
    partial_ += n;
    offset_ += n;
    data = data.subspan(n);
    if (partial_ == kBlockSize) {
      partial_ = 0;
      LCFS_TRY(place_block());
    }
  }
  return {};
}

Status IngestImpl::leave_small() {
  small_ = false;
  std::vector<std::byte> const data = std::move(small_data_);
  small_data_.clear();
  if (data.empty()) return {};
  return append(data);
}

Status IngestImpl::append_hole(std::uint64_t length) {
  static constexpr std::array<std::byte, kBlockSize> kZeroes{};
  if (small_ && length != 0) LCFS_TRY(leave_small());
  while (length != 0) {
    if (partial_ == 0 && length >= kBlockSize) {
      LCFS_TRY(end_run());
      std::uint64_t const whole = length / kBlockSize * kBlockSize;
      offset_ += whole;
      length -= whole;
      continue;
    }
    std::size_t const n = std::min<std::uint64_t>(length, kBlockSize - partial_);
    LCFS_TRY(append(std::span(kZeroes).first(n)));
    length -= n;
  }
  return {};
}

Result<Content> IngestImpl::end_content() {
  Content out;
  if (small_) {
    out.size = small_data_.size();
    while (!small_data_.empty() && small_data_.back() == std::byte{0}) small_data_.pop_back();
    if (small_data_.empty()) return out;
    scratch_.push_back(kInlineContent);
    auto const size = static_cast<std::uint32_t>(small_data_.size());
    log_bytes(&size, sizeof size);
    log_bytes(small_data_.data(), small_data_.size());
  } else {
    out.size = offset_;
    if (partial_ != 0) {
      std::memset(buffer_.data() + used_ + partial_, 0, kBlockSize - partial_);
      offset_ += kBlockSize - partial_;
      partial_ = 0;
      LCFS_TRY(place_block());
    }
    LCFS_TRY(end_run());
    if (!any_extent_) return out;
    PlacedExtent const last{};
    log_bytes(&last, sizeof last);
  }
  LCFS_TRY(log_.append(scratch_));
  scratch_.clear();
  out.handle = content_ + 1;
  out.blocks = placed_;
  return out;
}

void IngestImpl::keep_tar() {
  skeleton_ = std::make_unique<SkeletonWriter>(store_.space, store_.device);
}

Status IngestImpl::tar_literal(std::span<std::byte const> bytes) {
  return skeleton_ ? skeleton_->literal(bytes) : Status{};
}

Status IngestImpl::tar_body(std::uint64_t offset, std::uint64_t length) {
  return skeleton_ ? skeleton_->body(delta_.impl().files.size() - 1, offset, length) : Status{};
}

Status IngestImpl::finish() {
  if (blocks_.count != 0) submit_buffer();
  if (buffer_) queue_.return_buffer(std::move(buffer_));
  buffer_ = {};
  LCFS_TRY(log_.finish());
  if (skeleton_ && !finished_) LCFS_TRY(skeleton_->finish());
  finished_ = true;
  return queue_.wait(sink_);
}

// One file's content, from position `at` of the log.
Status IngestImpl::read_extents(std::uint64_t at, PlacedFileReader& reader) {
  auto read = [&](void* into, std::size_t size) -> Status {
    LCFS_TRY(log_.read(at, {static_cast<std::byte*>(into), size}));
    at += size;
    return {};
  };
  std::byte tag{};
  LCFS_TRY(read(&tag, 1));
  if (tag != kExtentContent) return {};
  AlignedBuffer data(kMaxExtentBlocks * kBlockSize);
  for (std::uint64_t done = 0;;) {
    PlacedExtent e;
    LCFS_TRY(read(&e, sizeof e));
    if (e.count == 0) return {};
    if (e.count > kMaxExtentBlocks || e.file_offset < done)
      return Error::corrupt("content log: a wrong extent");
    at += e.count * sizeof(std::uint32_t);  // checksums: the reader has its own
    auto const bytes = data.span().first(e.count * kBlockSize);
    LCFS_TRY(store_.device.read(e.block * kBlockSize, bytes));
    LCFS_TRY(reader.hole(e.file_offset - done));
    LCFS_TRY(reader.data(bytes));
    done = e.file_offset + bytes.size();
  }
}

Status IngestImpl::read_placed(PlacedFileReader& reader) {
  LCFS_TRY(finish());
  auto const& delta = delta_.impl();
  for (std::uint32_t n = 0; n < delta.nodes.size(); ++n) {
    auto const& node = delta.nodes[n];
    if (node.dead || node.kind != Delta::Impl::kOther || node.inode == kNone) continue;
    auto const& file = delta.files[node.inode];
    if (!S_ISREG(file.mode) || file.data == 0 || !reader.begin_file(delta.path_of(n))) continue;
    LCFS_TRY(read_extents(file.data - 1, reader));
    LCFS_TRY(reader.end_file());
  }
  return {};
}

Ingest::Ingest(std::unique_ptr<IngestImpl> impl) : impl_(std::move(impl)) {}
Ingest::~Ingest() = default;
Delta& Ingest::delta() { return impl_->delta(); }
void Ingest::begin_content(std::uint64_t size) { impl_->begin_content(size); }
Status Ingest::append(std::span<std::byte const> data) { return impl_->append(data); }
Status Ingest::append_hole(std::uint64_t length) { return impl_->append_hole(length); }
Result<Content> Ingest::end_content() { return impl_->end_content(); }
void Ingest::keep_tar() { impl_->keep_tar(); }
Status Ingest::tar_literal(std::span<std::byte const> bytes) { return impl_->tar_literal(bytes); }
Status Ingest::tar_body(std::uint64_t offset, std::uint64_t length) {
  return impl_->tar_body(offset, length);
}
Status Ingest::finish() { return impl_->finish(); }
Status Ingest::read_placed(PlacedFileReader& reader) { return impl_->read_placed(reader); }

}  // namespace lcfs
