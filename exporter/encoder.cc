// SPDX-License-Identifier: Apache-2.0
#include "exporter/encoder.h"

#include <fmt/format.h>
#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <thread>

#include "base/endian.h"
#include "base/sync.h"
#include "base/upper_halves.h"
#include "format/hash.h"
#include "oci/gzip_header.h"

namespace lcfs::exporter {
namespace {

constexpr std::size_t kHistory = 32u << 10;  // that deflate may refer to
constexpr int kIsalLevel = 2;
constexpr int kZstdLevel = 3;
constexpr std::string_view kGzipHeader{"\x1f\x8b\x08\0\0\0\0\0\0\xff",
                                       10};  // no name, no time, of an unknown system

Error no_memory() { return Error::io("cannot compress", ENOMEM); }
std::span<std::byte const> bytes_of(std::string_view s) { return std::as_bytes(std::span(s)); }

class Plain final : public Encoder {
 public:
  explicit Plain(ByteSink& out) : out_(out) {}
  Status feed(Piece piece) override { return out_.write(*piece); }
  Status finish() override { return {}; }

 private:
  ByteSink& out_;
};

// The trailer of every gzip member.
class GzipTrailer {
 public:
  void add(std::span<std::byte const> plain) {
    crc_ = crc32_gzip_refl(crc_, reinterpret_cast<std::uint8_t const*>(plain.data()), plain.size());
    clear_upper_halves();
    size_ += static_cast<std::uint32_t>(plain.size());
  }
  Status write(ByteSink& out) const {
    std::array<le32, 2> words{};
    words[0].set(crc_);
    words[1].set(size_);
    return out.write(std::as_bytes(std::span(words)));
  }

 private:
  std::uint32_t crc_ = 0, size_ = 0;
};

// Pieces to threads, results back in order.
class ParallelGzip final : public Encoder {
 public:
  ParallelGzip(unsigned threads, ByteSink& out) : out_(out), threads_(std::max(1u, threads)) {}
  ~ParallelGzip() override {
    {
      Lock lock(mu_);
      stop_ = true;
    }
    work_.notify_all();
    for (auto& t : workers_) t.join();
  }

  Status feed(Piece piece) override {
    if (!begun_) LCFS_TRY(out_.write(bytes_of(kGzipHeader)));
    begun_ = true;
    trailer_.add(*piece);
    auto job = std::make_shared<Job>();
    job->plain = piece;
    job->before = std::exchange(last_, std::move(piece));
    {
      Lock lock(mu_);
      if (workers_.size() < threads_) workers_.emplace_back([this] { work(); });
      todo_.push_back(job);
    }
    work_.notify_one();
    order_.push_back(std::move(job));
    while (order_.size() > 2 * threads_) LCFS_TRY(take());
    return {};
  }

  Status finish() override {
    if (!begun_) LCFS_TRY(out_.write(bytes_of(kGzipHeader)));
    while (!order_.empty()) LCFS_TRY(take());
    LCFS_TRY(out_.write(bytes_of(std::string_view("\x03\0", 2))));  // an empty last block
    return trailer_.write(out_);
  }

 private:
  struct Job {
    Piece plain{}, before{};
    std::vector<std::byte> packed{};
    bool done = false, failed = false;  // under mu_
  };

  // The oldest one.
  Status take() {
    auto const job = order_.front();
    order_.pop_front();
    {
      Lock lock(mu_);
      while (!job->done) lock.wait(done_);
    }
    if (job->failed) return no_memory();
    return out_.write(job->packed);
  }

  void work() {
    std::vector<std::uint8_t> scratch(ISAL_DEF_LVL2_DEFAULT);
    auto stream = std::make_unique<isal_zstream>();
    for (;;) {
      std::shared_ptr<Job> job;
      {
        Lock lock(mu_);
        while (!stop_ && todo_.empty()) lock.wait(work_);
        if (stop_) return;
        job = std::move(todo_.front());
        todo_.pop_front();
      }
      bool const ok = deflate_piece(*stream, scratch, *job);
      Lock const lock(mu_);
      job->failed = !ok;
      job->done = true;
      done_.notify_all();
    }
  }

  static bool deflate_piece(isal_zstream& s, std::vector<std::uint8_t>& scratch, Job& job) {
    auto const& plain = *job.plain;
    isal_deflate_init(&s);
    s.level = kIsalLevel;
    s.level_buf = scratch.data();
    s.level_buf_size = static_cast<std::uint32_t>(scratch.size());
    s.flush = SYNC_FLUSH;  // ends on a byte, so that pieces can be joined
    s.end_of_stream = 0;
    std::vector<std::uint8_t> dictionary;
    if (job.before) {
      auto const n = std::min(kHistory, job.before->size());
      auto const* const from = reinterpret_cast<std::uint8_t const*>(job.before->data());
      dictionary.assign(from + (job.before->size() - n), from + job.before->size());
      if (isal_deflate_set_dict(&s, dictionary.data(), static_cast<std::uint32_t>(n)) != COMP_OK)
        return false;
    }
    job.packed.resize(plain.size() + plain.size() / 1024 +
                      4096);  // stored blocks are the worst case
    // ISA-L does not change its input; its interface has no const.
    s.next_in = const_cast<std::uint8_t*>(reinterpret_cast<std::uint8_t const*>(plain.data()));
    s.avail_in = static_cast<std::uint32_t>(plain.size());
    s.next_out = reinterpret_cast<std::uint8_t*>(job.packed.data());
    s.avail_out = static_cast<std::uint32_t>(job.packed.size());
    int const rc = isal_deflate(&s);
    clear_upper_halves();
    if (rc != COMP_OK || s.avail_in != 0 || s.avail_out == 0) return false;
    job.packed.resize(job.packed.size() - s.avail_out);
    job.plain.reset();
    job.before.reset();
    return true;
  }

  ByteSink& out_;
  unsigned const threads_;
  bool begun_ = false;
  GzipTrailer trailer_{};
  Piece last_{};
  std::deque<std::shared_ptr<Job>> order_{};
  std::vector<std::thread> workers_{};
  Mutex mu_;
  std::condition_variable work_{}, done_{};
  std::deque<std::shared_ptr<Job>> todo_ LCFS_GUARDED_BY(mu_);
  bool stop_ LCFS_GUARDED_BY(mu_) = false;
};

class Zlib final : public Encoder {
 public:
  Zlib(Encoding const& how, ByteSink& out)
      : out_(out), header_(how.header), room_(kPieceBytes / 4) {
    ok_ = deflateInit2(&stream_, how.level, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK;
  }
  ~Zlib() override { deflateEnd(&stream_); }

  Status feed(Piece piece) override {
    trailer_.add(*piece);
    return run(*piece, Z_NO_FLUSH);
  }
  Status finish() override {
    LCFS_TRY(run({}, Z_FINISH));
    return trailer_.write(out_);
  }

 private:
  Status run(std::span<std::byte const> plain, int flush) {
    if (!ok_) return no_memory();
    if (!header_.empty()) LCFS_TRY(out_.write(bytes_of(std::exchange(header_, {}))));
    // zlib does not change its input; its interface is older than const.
    stream_.next_in = const_cast<Bytef*>(reinterpret_cast<Bytef const*>(plain.data()));
    stream_.avail_in = static_cast<uInt>(plain.size());
    for (;;) {
      stream_.next_out = reinterpret_cast<Bytef*>(room_.data());
      stream_.avail_out = static_cast<uInt>(room_.size());
      int const done = deflate(&stream_, flush);
      if (done == Z_STREAM_ERROR) return no_memory();
      LCFS_TRY(out_.write(std::span(room_).first(room_.size() - stream_.avail_out)));
      if (flush == Z_FINISH ? done == Z_STREAM_END : stream_.avail_out != 0) return {};
    }
  }

  ByteSink& out_;
  std::string header_;
  std::vector<std::byte> room_;
  z_stream stream_{};
  bool ok_ = false;
  GzipTrailer trailer_{};
};

class Zstd final : public Encoder {
 public:
  Zstd(Encoding const& how, unsigned threads, ByteSink& out)
      : out_(out), context_(ZSTD_createCCtx()), room_(ZSTD_CStreamOutSize()) {
    if (!context_) return;
    set(ZSTD_c_compressionLevel, kZstdLevel);
    set(ZSTD_c_checksumFlag, how.checksum ? 1 : 0);
    // The output is the same for any number of workers, but different without workers.
    if (how.kind == Encoding::kZstd) set(ZSTD_c_nbWorkers, static_cast<int>(std::max(1u, threads)));
    if (how.kind == Encoding::kZstdOne && how.size != ~std::uint64_t{0})
      ZSTD_CCtx_setPledgedSrcSize(context_, how.size);
  }
  ~Zstd() override { ZSTD_freeCCtx(context_); }
  Zstd(Zstd const&) = delete;
  Zstd& operator=(Zstd const&) = delete;

  Status feed(Piece piece) override { return run(*piece, ZSTD_e_continue); }
  Status flush() override { return run({}, ZSTD_e_flush); }
  Status finish() override { return run({}, ZSTD_e_end); }

 private:
  void set(ZSTD_cParameter what, int value) { (void)ZSTD_CCtx_setParameter(context_, what, value); }
  Status run(std::span<std::byte const> plain, ZSTD_EndDirective end) {
    if (context_ == nullptr) return no_memory();
    ZSTD_inBuffer in{plain.data(), plain.size(), 0};
    for (;;) {
      ZSTD_outBuffer out{room_.data(), room_.size(), 0};
      auto const left = ZSTD_compressStream2(context_, &out, &in, end);
      if (ZSTD_isError(left) != 0)
        return Error::io(fmt::format("zstd: {}", ZSTD_getErrorName(left)));
      LCFS_TRY(out_.write(std::span(room_).first(out.pos)));
      if (end != ZSTD_e_continue ? left == 0 : in.pos == in.size) return {};
    }
  }

  ByteSink& out_;
  ZSTD_CCtx* context_;
  std::vector<std::byte> room_;
};

// Takes the first bytes of the output, and then stops the encoder.
class Probe final : public ByteSink {
 public:
  explicit Probe(std::size_t wanted) : wanted_(wanted) {}
  Status write(std::span<std::byte const> bytes) override {
    auto const n = std::min(bytes.size(), wanted_ - got_.size());
    got_.insert(got_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
    return {};
  }
  [[nodiscard]] bool full() const { return got_.size() == wanted_; }
  [[nodiscard]] std::uint32_t checksum() const { return crc32c(got_); }

 private:
  std::size_t const wanted_;
  std::vector<std::byte> got_{};
};

Result<bool> begins_so(Encoding const& how, BlobInfo const& blob, std::span<Piece const> pieces,
                       bool whole) {
  Probe probe(std::min<std::uint64_t>(blob.size, kBlobProbe));
  LCFS_TRY_ASSIGN(auto const encoder, make_encoder(how, 1, probe));
  for (auto const& piece : pieces) {
    if (!probe.full()) LCFS_TRY(encoder->feed(piece));
  }
  // Its workers may have written nothing yet.  The pieces are one job of theirs, so that a
  // flush changes nothing before its end.
  if (!probe.full()) LCFS_TRY(whole ? encoder->finish() : encoder->flush());
  return probe.full() && probe.checksum() == blob.probe_checksum;
}

std::vector<Encoding> candidates(BlobInfo const& blob, std::uint64_t plain_bytes) {
  std::vector<Encoding> all;
  auto const head = bytes_of(blob.head);
  if (blob.compression == BlobCompression::kGzip) {
    if (blob.head.starts_with(kGzipHeader)) {
      all.emplace_back();
      all.back().kind = Encoding::kGzip;
    }
    oci::GzipHeader parser;
    auto rest = head;
    if (auto const done = parser.feed(rest); !done || !*done) return all;
    for (int const level : {6, 9, 1, 5, 4, 3, 2, 7, 8}) {
      all.emplace_back();
      all.back().kind = Encoding::kZlib;
      all.back().level = level;
      all.back().header = blob.head.substr(0, head.size() - rest.size());
    }
  } else if (blob.compression == BlobCompression::kZstd && head.size() > 4) {
    auto const flags = static_cast<unsigned>(head[4]);  // RFC 8878, 3.1.1.1.1
    bool const sized = flags >> 6 != 0 || (flags & 0x20) != 0;
    for (auto const kind : {Encoding::kZstd, Encoding::kZstdOne}) {
      all.emplace_back();
      all.back().kind = kind;
      all.back().checksum = (flags & 4) != 0;
      all.back().size = sized ? plain_bytes : ~std::uint64_t{0};
    }
  }
  return all;
}

}  // namespace

Result<std::unique_ptr<Encoder>> make_encoder(Encoding const& how, unsigned threads,
                                              ByteSink& out) {
  switch (how.kind) {
    case Encoding::kPlain: return std::unique_ptr<Encoder>(std::make_unique<Plain>(out));
    case Encoding::kGzip:
      return std::unique_ptr<Encoder>(std::make_unique<ParallelGzip>(threads, out));
    case Encoding::kZlib: return std::unique_ptr<Encoder>(std::make_unique<Zlib>(how, out));
    case Encoding::kZstd:
    case Encoding::kZstdOne: break;
  }
  return std::unique_ptr<Encoder>(std::make_unique<Zstd>(how, threads, out));
}

Result<std::optional<Encoding>> find_encoding(BlobInfo const& blob, std::uint64_t plain_bytes,
                                              std::span<Piece const> pieces, bool whole) {
  if (blob.compression == BlobCompression::kNone) return std::optional<Encoding>(Encoding{});
  for (auto const& how : candidates(blob, plain_bytes)) {
    LCFS_TRY_ASSIGN(bool const fits, begins_so(how, blob, pieces, whole));
    if (fits) return std::optional<Encoding>(how);
  }
  return std::optional<Encoding>{};
}

}  // namespace lcfs::exporter
