// SPDX-License-Identifier: Apache-2.0
#include "importer/source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <thread>
#include <utility>

#include "base/bounded_queue.h"
#include "base/fd.h"
#include "importer/decompress.h"
#include "importer/tar_header.h"
#include "oci/quote.h"

namespace lcfs::importer {
namespace {

constexpr int kPollMs = 100;         // how soon a stop is noticed while no data arrives
constexpr int kPipeBytes = 1 << 20;  // fewer wake-ups than the 64 KiB a pipe has by default
constexpr std::size_t kAhead = 8;    // chunks read ahead
constexpr std::size_t kHead = kTarBlock;

// A file descriptor that can only be read forwards.
class FdSource final : public ByteSource {
 public:
  FdSource(Fd fd, std::string name, Common& common, std::function<void(std::uint64_t)> on_read)
      : fd_(std::move(fd)), name_(std::move(name)), common_(common), on_read_(std::move(on_read)) {
    (void)fcntl(fd_.get(), F_SETPIPE_SZ, kPipeBytes);  // fails if it is not a pipe
  }

  Result<Slice> next() override {
    auto chunk = common_.pool.get();
    std::size_t fill = 0;
    while (fill < kChunkBytes && !at_end_) {
      LCFS_TRY(wait());
      ssize_t const n = ::read(fd_.get(), chunk.get() + fill, kChunkBytes - fill);
      if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (n < 0) return oci::in_member(Error::io("cannot read", errno), name_, "");
      at_end_ = n == 0;
      fill += static_cast<std::size_t>(n);
      if (on_read_ && n > 0) on_read_(static_cast<std::uint64_t>(n));
    }
    return Slice{chunk, {chunk.get(), fill}};
  }

 private:
  Status wait() {
    for (;;) {
      if (common_.stopped()) return Error::interrupted();
      pollfd p{fd_.get(), POLLIN, 0};
      int const n = poll(&p, 1, kPollMs);
      if (n > 0) return {};
      if (n < 0 && errno != EINTR)
        return oci::in_member(Error::io("cannot poll", errno), name_, "");
    }
  }

  Fd fd_;
  std::string name_;
  Common& common_;
  std::function<void(std::uint64_t)> on_read_;
  bool at_end_ = false;
};

// Another source, decompressed.
class DecodingSource final : public ByteSource {
 public:
  DecodingSource(std::unique_ptr<ByteSource> from, Slice first, std::unique_ptr<Decoder> decoder,
                 std::string name, Common& common)
      : from_(std::move(from)),
        in_(std::move(first)),
        decoder_(std::move(decoder)),
        name_(std::move(name)),
        common_(common) {}

  Result<Slice> next() override {
    auto chunk = common_.pool.get();
    std::span<std::byte> room(chunk.get(), kChunkBytes);
    while (!room.empty() && !at_end_) {
      if (auto ok = decoder_->run(in_.bytes, room); !ok)
        return oci::in_member(std::move(ok).error(), name_, "");
      if (room.empty()) break;
      LCFS_TRY_ASSIGN(in_, from_->next());
      at_end_ = in_.empty();
      if (!at_end_) continue;
      if (auto ok = decoder_->finish(); !ok)
        return oci::in_member(std::move(ok).error(), name_, "");
    }
    return Slice{chunk, {chunk.get(), kChunkBytes - room.size()}};
  }

 private:
  std::unique_ptr<ByteSource> from_;
  Slice in_;
  std::unique_ptr<Decoder> decoder_;
  std::string name_;
  Common& common_;
  bool at_end_ = false;
};

// Another source, read by its own thread.
class AheadSource final : public ByteSource {
 public:
  explicit AheadSource(std::unique_ptr<ByteSource> from)
      : from_(std::move(from)), thread_([this] { read_all(); }) {}
  ~AheadSource() override {
    queue_.cancel();
    thread_.join();
  }

  Result<Slice> next() override {
    if (failed_) return *failed_;
    auto item = queue_.pop();
    if (!item) return Slice{};
    if (!*item) failed_ = item->error();
    return *std::move(item);
  }

 private:
  void read_all() {
    for (;;) {
      auto got = from_->next();
      bool const last = !got || got->empty();
      if (last && got) break;
      if (!queue_.push(std::move(got)) || last) break;
    }
    queue_.close();
  }

  std::unique_ptr<ByteSource> from_;
  BoundedQueue<Result<Slice>> queue_{kAhead};
  std::optional<Error> failed_{};
  std::thread thread_;  // last: it uses all of the above
};

// A source with some bytes in front of it.
class PrefixedSource final : public ByteSource {
 public:
  PrefixedSource(Slice first, std::unique_ptr<ByteSource> rest)
      : first_(std::move(first)), rest_(std::move(rest)) {}
  Result<Slice> next() override {
    if (!first_.empty()) return std::exchange(first_, {});
    return rest_->next();
  }

 private:
  Slice first_;
  std::unique_ptr<ByteSource> rest_;
};

Error not_an_archive(std::string_view name, std::string_view why) {
  return oci::in_member(
      Error::invalid(fmt::format("not a docker-archive, OCI archive or OCI layout ({})", why)),
      name, "");
}

// Checks that an uncompressed archive that starts with `head` looks like a tar.
Status check_tar(std::string_view name, std::span<std::byte const> head) {
  if (head.empty()) return oci::in_member(Error::invalid("is empty"), name, "");
  if (head.size() < kTarBlock)
    return not_an_archive(name, fmt::format("only {} bytes", head.size()));
  auto const block = head.first<kTarBlock>();
  if (std::all_of(block.begin(), block.end(), [](std::byte b) { return b == std::byte{0}; }))
    return {};
  if (TarHeader::parse(block)) return {};
  return not_an_archive(name, "not a tar file");
}

Result<std::unique_ptr<ByteSource>> make_stream(Fd fd, std::string const& name, Common& common,
                                                std::function<void(std::uint64_t)> on_read) {
  std::unique_ptr<ByteSource> source =
      std::make_unique<FdSource>(std::move(fd), name, common, std::move(on_read));
  LCFS_TRY_ASSIGN(auto first, source->next());
  auto const compression = sniff(first.bytes);
  if (compression != Compression::kNone) {
    auto decoder = make_decoder(compression);
    if (!decoder) return not_an_archive(name, decoder.error().message);
    source = std::make_unique<DecodingSource>(std::move(source), std::move(first),
                                              *std::move(decoder), name, common);
    LCFS_TRY_ASSIGN(first, source->next());
  }
  LCFS_TRY(check_tar(name, first.bytes));
  source = std::make_unique<PrefixedSource>(std::move(first), std::move(source));
  return std::unique_ptr<ByteSource>(std::make_unique<AheadSource>(std::move(source)));
}

Result<OpenedArchive> open_file(Fd fd, OpenedArchive opened, Common& common,
                                std::function<void(std::uint64_t)> on_read) {
  std::array<std::byte, kHead> head;
  auto const n = static_cast<std::size_t>(std::min<std::uint64_t>(head.size(), opened.size));
  ssize_t const got = pread(fd.get(), head.data(), n, 0);
  if (got < 0) return oci::in_member(Error::io("cannot read", errno), opened.name, "");
  auto const start = std::span(head).first(static_cast<std::size_t>(got));
  if (sniff(start) != Compression::kNone) {
    LCFS_TRY_ASSIGN(opened.stream,
                    make_stream(std::move(fd), opened.name, common, std::move(on_read)));
    return opened;
  }
  LCFS_TRY(check_tar(opened.name, start));
  (void)posix_fadvise(fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  LCFS_TRY_ASSIGN(opened.seekable,
                  open_tar_archive(std::move(fd), opened.size, opened.name, common.stop));
  return opened;
}

}  // namespace

Result<OpenedArchive> open_archive(std::string const& path, Common& common,
                                   std::function<void(std::uint64_t)> on_read) {
  OpenedArchive opened;
  bool const standard_input = path == "-";
  opened.name = standard_input ? "standard input" : path;
  Fd fd(standard_input ? fcntl(common.input, F_DUPFD_CLOEXEC, 3)
                       : ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (fd.get() < 0) {
    if (errno == ENOENT && path.starts_with("docker://"))
      return Error::not_found(fmt::format("lcfs does not pull images; run: skopeo copy {} "
                                          "oci-archive:image.tar && lcfs import image.tar",
                                          oci::printable(path)))
          .in(opened.name);
    return oci::in_member(Error::io("cannot open", errno), opened.name, "");
  }
  struct stat st {};
  if (fstat(fd.get(), &st) != 0)
    return oci::in_member(Error::io("cannot stat", errno), opened.name, "");
  if (S_ISDIR(st.st_mode)) {
    LCFS_TRY_ASSIGN(opened.seekable, open_directory_archive(std::move(fd), opened.name));
    return opened;
  }
  // Standard input that is a file at offset 0 is read as that file.
  bool const from_start = !standard_input || lseek(fd.get(), 0, SEEK_CUR) == 0;
  if (S_ISREG(st.st_mode) && from_start) {
    opened.size = static_cast<std::uint64_t>(st.st_size);
    return open_file(std::move(fd), std::move(opened), common, std::move(on_read));
  }
  LCFS_TRY_ASSIGN(opened.stream,
                  make_stream(std::move(fd), opened.name, common, std::move(on_read)));
  return opened;
}

}  // namespace lcfs::importer
