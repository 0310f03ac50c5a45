// SPDX-License-Identifier: Apache-2.0
// The stream of a skeleton: pieces, compressed with zstd.  engine/import/skeleton.cc reads and
// writes it in a store.
#include "engine/import/skeleton_stream.h"

#include <fmt/format.h>
#include <zstd.h>

#include <algorithm>

namespace lcfs {
namespace {

constexpr int kLevel = 1;       // headers are mostly zeroes: higher levels gain a few percent
constexpr int kWindowLog = 20;  // 1 MiB, whatever the level: what a reader needs
constexpr std::size_t kLiteralRoom = 64u << 10;  // bytes of one literal piece
constexpr std::size_t kRawRoom = 128u << 10;     // pieces compressed in one go
constexpr std::size_t kOutRoom = 64u << 10;

// The low bits of a piece's first number.
constexpr unsigned kKindBits = 2;
enum PieceKind : std::uint64_t { kLiteralPiece = 0, kWholePiece = 1, kPartPiece = 2 };

Error damaged(std::string_view what) {
  return Error::corrupt(fmt::format("skeleton of a tar: {}", what));
}

}  // namespace

void SkeletonWriter::Free::operator()(ZSTD_CCtx_s* context) const { ZSTD_freeCCtx(context); }
void SkeletonDecoder::Free::operator()(ZSTD_DCtx_s* context) const { ZSTD_freeDCtx(context); }

SkeletonWriter::SkeletonWriter(SpaceMap& space, Device& device) : log_(space, device) {}
SkeletonWriter::~SkeletonWriter() = default;

void SkeletonWriter::number(std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) raw_.push_back(static_cast<std::byte>(value | 0x80));
  raw_.push_back(static_cast<std::byte>(value));
}

void SkeletonWriter::end_literal() {
  if (literal_.empty()) return;
  number(literal_.size() << kKindBits | kLiteralPiece);
  raw_.insert(raw_.end(), literal_.begin(), literal_.end());
  literal_.clear();
}

Status SkeletonWriter::literal(std::span<std::byte const> bytes) {
  if (given_up_) return {};
  while (!bytes.empty()) {
    auto const n = std::min(bytes.size(), kLiteralRoom - literal_.size());
    literal_.insert(literal_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
    bytes = bytes.subspan(n);
    if (literal_.size() < kLiteralRoom) return {};
    end_literal();
    LCFS_TRY(spill());
  }
  return {};
}

Status SkeletonWriter::body(std::uint64_t file, std::uint64_t offset, std::uint64_t length) {
  if (given_up_ || length == 0) return {};
  end_literal();
  number((file - file_) << kKindBits | (offset == 0 ? kWholePiece : kPartPiece));
  if (offset != 0) number(offset);
  number(length);
  file_ = file;
  return spill();
}

Status SkeletonWriter::spill() { return raw_.size() < kRawRoom ? Status{} : compress(false); }

Status SkeletonWriter::compress(bool end) {
  if (!zstd_) {
    zstd_.reset(ZSTD_createCCtx());
    if (!zstd_) return Error::io("cannot set up zstd", ENOMEM);
    ZSTD_CCtx_setParameter(zstd_.get(), ZSTD_c_compressionLevel, kLevel);
    ZSTD_CCtx_setParameter(zstd_.get(), ZSTD_c_windowLog, kWindowLog);
    // This is all the input: the tables need not be larger than a small layer requires.
    if (end) ZSTD_CCtx_setPledgedSrcSize(zstd_.get(), raw_.size());
    out_.resize(kOutRoom);
  }
  ZSTD_inBuffer in{raw_.data(), raw_.size(), 0};
  for (;;) {
    ZSTD_outBuffer out{out_.data(), out_.size(), 0};
    auto const left =
        ZSTD_compressStream2(zstd_.get(), &out, &in, end ? ZSTD_e_end : ZSTD_e_continue);
    if (ZSTD_isError(left) != 0) return Error::io(fmt::format("zstd: {}", ZSTD_getErrorName(left)));
    LCFS_TRY(log_.append(std::span(out_).first(out.pos)));
    if (log_.end() > kMaxSkeleton) given_up_ = true;
    if (given_up_ || (in.pos == in.size && (!end || left == 0))) break;
  }
  raw_.clear();
  return {};
}

Status SkeletonWriter::finish() {
  if (!given_up_) {
    end_literal();
    LCFS_TRY(compress(true));
  }
  zstd_.reset();
  for (auto* buffer : {&literal_, &raw_, &out_}) std::vector<std::byte>().swap(*buffer);
  return log_.finish();
}

// Reading -----------------------------------------------------------------------------------------

SkeletonDecoder::SkeletonDecoder(Read read) : read_(std::move(read)), zstd_(ZSTD_createDCtx()) {
  out_.resize(kOutRoom);
  if (zstd_) ZSTD_DCtx_setParameter(zstd_.get(), ZSTD_d_windowLogMax, kWindowLog);
}
SkeletonDecoder::~SkeletonDecoder() = default;

Result<bool> SkeletonDecoder::fill() {
  if (!zstd_) return Error::io("cannot set up zstd", ENOMEM);
  at_ = end_ = 0;
  bool input_over = false;
  while (end_ == 0) {
    if (in_.empty() && !input_over) {
      LCFS_TRY_ASSIGN(in_, read_());
      input_over = in_.empty();
    }
    if (frame_done_) {
      if (!in_.empty()) return damaged("trailing bytes");
      return false;
    }
    ZSTD_inBuffer in{in_.data(), in_.size(), 0};
    ZSTD_outBuffer out{out_.data(), out_.size(), 0};
    auto const left = ZSTD_decompressStream(zstd_.get(), &out, &in);
    if (ZSTD_isError(left) != 0) return damaged(ZSTD_getErrorName(left));
    in_ = in_.subspan(in.pos);
    end_ = out.pos;
    frame_done_ = left == 0;
    if (input_over && end_ == 0 && !frame_done_) return damaged("cut short");
  }
  return true;
}

Result<std::uint64_t> SkeletonDecoder::number() {
  std::uint64_t value = 0;
  for (unsigned shift = 0;; shift += 7) {
    if (at_ == end_) {
      LCFS_TRY_ASSIGN(bool const more, fill());
      if (!more) return damaged("ends inside a piece");
    }
    auto const byte = static_cast<std::uint64_t>(out_[at_++]);
    if (shift == 63 && byte > 1) return damaged("a number of more than 64 bits");
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return value;
    if (shift == 63) return damaged("a number of more than 64 bits");
  }
}

Result<SkeletonPiece> SkeletonDecoder::next() {
  if (at_ == end_) {
    LCFS_TRY_ASSIGN(bool const more, fill());
    if (!more && literal_ != 0) return damaged("ends inside a piece");
    if (!more) return SkeletonPiece{};
  }
  if (literal_ == 0) {
    LCFS_TRY_ASSIGN(std::uint64_t const first, number());
    std::uint64_t const rest = first >> kKindBits;
    switch (first & ((1u << kKindBits) - 1)) {
      case kLiteralPiece:
        if (rest == 0) return damaged("an empty literal piece");
        literal_ = rest;
        break;
      case kWholePiece:
      case kPartPiece: {
        SkeletonPiece piece;
        piece.kind = SkeletonPiece::kBody;
        if (rest > ~std::uint32_t{0} - file_) return damaged("a file number out of range");
        piece.file = file_ += rest;
        if ((first & kPartPiece) != 0) {
          LCFS_TRY_ASSIGN(piece.offset, number());
        }
        LCFS_TRY_ASSIGN(piece.length, number());
        if (piece.length == 0 || piece.offset > kMaxFileSize || piece.length > kMaxFileSize)
          return damaged("a body out of range");
        return piece;
      }
      default: return damaged("a piece of an unknown kind");
    }
    if (at_ == end_) {
      LCFS_TRY_ASSIGN(bool const more, fill());
      if (!more) return damaged("ends inside a piece");
    }
  }
  SkeletonPiece piece;
  piece.kind = SkeletonPiece::kLiteral;
  auto const n = static_cast<std::size_t>(std::min<std::uint64_t>(literal_, end_ - at_));
  piece.bytes = std::span(out_).subspan(at_, n);
  at_ += n;
  literal_ -= n;
  return piece;
}

}  // namespace lcfs
