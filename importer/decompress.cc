// SPDX-License-Identifier: Apache-2.0
#include "importer/decompress.h"

#include <fmt/format.h>
#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>

#include "base/upper_halves.h"
#include "oci/gzip_header.h"

namespace lcfs::importer {
namespace {

constexpr int kMaxWindowLog = 27;  // 128 MiB, what `zstd -d` takes by default

bool starts_with(std::span<std::byte const> head, std::string_view magic) {
  if (head.size() < magic.size()) return false;
  return std::equal(magic.begin(), magic.end(), head.begin(),
                    [](char a, std::byte b) { return static_cast<std::byte>(a) == b; });
}

bool is_zstd(std::span<std::byte const> head) {
  using namespace std::string_view_literals;
  if (starts_with(head, "\x28\xb5\x2f\xfd"sv)) return true;
  // A skippable frame may come first: 0x184d2a5?, little endian.
  return head.size() >= 4 && (head[0] & std::byte{0xf0}) == std::byte{0x50} &&
         starts_with(head.subspan(1), "\x2a\x4d\x18"sv);
}

// Drops leading zeroes; returns how many.
std::size_t skip_zeroes(std::span<std::byte const>& in) {
  auto const n = static_cast<std::size_t>(
      std::find_if(in.begin(), in.end(), [](std::byte b) { return b != std::byte{0}; }) -
      in.begin());
  in = in.subspan(n);
  return n;
}

Error damaged(std::uint64_t offset, std::string message) {
  return Error::corrupt(std::move(message)).at(offset);
}

class GzipDecoder final : public Decoder {
 public:
  GzipDecoder() : state_(std::make_unique<inflate_state>()) {}

  Status run(std::span<std::byte const>& in, std::span<std::byte>& out) override {
    for (;;) {
      if (phase_ == Phase::kBetween) LCFS_TRY(next_member(in));
      if (phase_ == Phase::kHeader) LCFS_TRY(read_header(in));
      if (phase_ != Phase::kData) return {};  // in is empty
      LCFS_TRY(inflate(in, out));
      if (state_->block_state != ISAL_BLOCK_FINISH) return {};
      phase_ = Phase::kBetween;
      ++members_;
    }
  }

  Status finish() override {
    if (phase_ != Phase::kBetween) return damaged(offset_, "gzip stream is cut short");
    return {};
  }

 private:
  enum class Phase : std::uint8_t { kHeader, kData, kBetween };

  // After a member: padding, the next member, or garbage.
  Status next_member(std::span<std::byte const>& in) {
    auto const zeroes = skip_zeroes(in);
    offset_ += zeroes;
    padding_ = padding_ || zeroes > 0;
    if (in.empty()) return {};
    if (padding_ || in[0] != std::byte{0x1f}) return garbage();
    header_ = oci::GzipHeader();
    phase_ = Phase::kHeader;
    return {};
  }

  Status read_header(std::span<std::byte const>& in) {
    std::size_t const before = in.size();
    auto done = header_.feed(in);
    offset_ += before - in.size();
    if (!done) {
      if (members_ > 0 && header_.no_member()) return garbage();
      done.error().offset = offset_ - 1;
      return std::move(done).error();
    }
    if (!*done) return {};
    isal_inflate_init(state_.get());
    state_->crc_flag = ISAL_GZIP_NO_HDR_VER;  // and checks CRC and size after the data
    phase_ = Phase::kData;
    return {};
  }

  Status inflate(std::span<std::byte const>& in, std::span<std::byte>& out) {
    constexpr std::size_t kMost = std::numeric_limits<std::uint32_t>::max() / 2;
    // isal_inflate() takes non-const input but does not write to it.
    state_->next_in = const_cast<std::uint8_t*>(reinterpret_cast<std::uint8_t const*>(in.data()));
    state_->avail_in = static_cast<std::uint32_t>(std::min(in.size(), kMost));
    state_->next_out = reinterpret_cast<std::uint8_t*>(out.data());
    state_->avail_out = static_cast<std::uint32_t>(std::min(out.size(), kMost));
    std::uint32_t const had_in = state_->avail_in;
    std::uint32_t const had_out = state_->avail_out;
    int const rc = isal_inflate(state_.get());
    clear_upper_halves();
    if (rc != ISAL_DECOMP_OK) {
      // After damage ISA-L may return more bits than this call passed: its counts are meaningless.
      return damaged(offset_, rc == ISAL_INCORRECT_CHECKSUM ? "gzip checksum or size mismatch"
                                                            : "damaged gzip data");
    }
    std::size_t const used = had_in - state_->avail_in;
    in = in.subspan(used);
    out = out.subspan(had_out - state_->avail_out);
    offset_ += used;
    return {};
  }

  [[nodiscard]] Error garbage() const {
    return damaged(offset_, "trailing garbage after the gzip stream");
  }

  std::unique_ptr<inflate_state> state_;
  oci::GzipHeader header_{};
  Phase phase_ = Phase::kHeader;
  std::uint64_t offset_ = 0;   // compressed bytes used
  std::uint64_t members_ = 0;  // that ended
  bool padding_ = false;       // after zeroes that follow the last member
};

class ZstdDecoder final : public Decoder {
 public:
  static Result<std::unique_ptr<Decoder>> make() {
    std::unique_ptr<ZSTD_DCtx, Free> ctx(ZSTD_createDCtx());
    if (!ctx ||
        ZSTD_isError(ZSTD_DCtx_setParameter(ctx.get(), ZSTD_d_windowLogMax, kMaxWindowLog)) != 0) {
      return Error::io("cannot initialize zstd");
    }
    return std::unique_ptr<Decoder>(new ZstdDecoder(std::move(ctx)));
  }

  Status run(std::span<std::byte const>& in, std::span<std::byte>& out) override {
    for (;;) {
      if (!in_frame_) {
        LCFS_TRY(next_frame(in));
      }
      if (out.empty() || (in.empty() && !pending_)) return {};
      LCFS_TRY(step(in, out));
    }
  }

  Status finish() override {
    if (in_frame_) return damaged(offset_, "zstd stream is cut short");
    return {};
  }

 private:
  struct Free {
    void operator()(ZSTD_DCtx* ctx) const { ZSTD_freeDCtx(ctx); }
  };
  explicit ZstdDecoder(std::unique_ptr<ZSTD_DCtx, Free> ctx) : ctx_(std::move(ctx)) {}

  Status next_frame(std::span<std::byte const>& in) {
    if (frames_ == 0) return {};
    auto const zeroes = skip_zeroes(in);
    offset_ += zeroes;
    padding_ = padding_ || zeroes > 0;
    if (in.empty()) return {};
    bool const magic = in[0] == std::byte{0x28} || (in[0] & std::byte{0xf0}) == std::byte{0x50};
    if (padding_ || !magic) return damaged(offset_, "trailing garbage after the zstd stream");
    return {};
  }

  Status step(std::span<std::byte const>& in, std::span<std::byte>& out) {
    ZSTD_inBuffer source{in.data(), in.size(), 0};
    ZSTD_outBuffer target{out.data(), out.size(), 0};
    std::size_t const rc = ZSTD_decompressStream(ctx_.get(), &target, &source);
    in = in.subspan(source.pos);
    out = out.subspan(target.pos);
    offset_ += source.pos;
    if (ZSTD_isError(rc) != 0) {
      return damaged(offset_, fmt::format("damaged zstd data: {}", ZSTD_getErrorName(rc)));
    }
    in_frame_ = rc != 0 && (in_frame_ || source.pos > 0);
    pending_ = in_frame_ && out.empty();
    if (rc == 0) ++frames_;
    return {};
  }

  std::unique_ptr<ZSTD_DCtx, Free> ctx_;
  std::uint64_t offset_ = 0;  // compressed bytes used
  std::uint64_t frames_ = 0;  // that ended
  bool in_frame_ = false;
  bool pending_ = false;  // output was full: there may be more without any input
  bool padding_ = false;
};

}  // namespace

Compression sniff(std::span<std::byte const> head) {
  using namespace std::string_view_literals;
  if (starts_with(head, "\x1f\x8b"sv)) return Compression::kGzip;
  if (is_zstd(head)) return Compression::kZstd;
  if (starts_with(head,
                  "\xfd"
                  "7zXZ\0"sv))
    return Compression::kXz;
  if (starts_with(head, "BZh"sv) && head.size() > 3 && head[3] >= std::byte{'1'} &&
      head[3] <= std::byte{'9'} && starts_with(head.subspan(4), "\x31\x41"sv)) {
    return Compression::kBzip2;
  }
  if (starts_with(head, "\x04\x22\x4d\x18"sv)) return Compression::kLz4;
  return Compression::kNone;
}

char const* name_of(Compression c) {
  switch (c) {
    case Compression::kNone: return "uncompressed";
    case Compression::kGzip: return "gzip";
    case Compression::kZstd: return "zstd";
    case Compression::kXz: return "xz";
    case Compression::kBzip2: return "bzip2";
    case Compression::kLz4: return "lz4";
  }
  return "";
}

Result<std::unique_ptr<Decoder>> make_decoder(Compression c) {
  if (c == Compression::kGzip) return std::unique_ptr<Decoder>(std::make_unique<GzipDecoder>());
  if (c == Compression::kZstd) return ZstdDecoder::make();
  if (c == Compression::kNone) return Error::invalid("not compressed");
  return Error::unsupported(fmt::format("{} compression is not supported", name_of(c)));
}

}  // namespace lcfs::importer
