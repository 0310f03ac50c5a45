// SPDX-License-Identifier: Apache-2.0
#include "heal/offer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "base/fd.h"
#include "device/checks.h"
#include "importer/chunk.h"
#include "importer/decompress.h"
#include "importer/tar_reader.h"

namespace lcfs::heal {
namespace {

// Bytes that may be a tar, or a compressed one.
class Stream {
 public:
  Stream(fsck::Healer& healer, int depth);
  // Errors: those of the healer.  Bytes that are not a tar are skipped.
  Status feed(std::span<std::byte const> bytes);

 private:
  Status decode(std::span<std::byte const> bytes);
  Status parse(std::span<std::byte const> bytes);

  class Files;
  std::unique_ptr<Files> files_;
  importer::TarReader tar_;
  std::vector<std::byte> head_{};  // until the form is known
  bool known_ = false, over_ = false;
  std::unique_ptr<importer::Decoder> decoder_{};
  std::vector<std::byte> plain_{};
};

// Offers the files of a tar to the healer, and looks for tars in them, one level deep.
class Stream::Files final : public importer::TarHandler {
 public:
  Files(fsck::Healer& healer, int depth) : healer_(healer), depth_(depth) {}

  Status entry(importer::TarEntry&& entry) override {
    bool const wanted = healer_.begin_file(entry.path);
    inner_.reset();
    if (!wanted && depth_ == 0 && entry.type == importer::TarType::kFile)
      inner_ = std::make_unique<Stream>(healer_, depth_ + 1);
    return {};
  }
  Status data(std::span<std::byte const> bytes) override {
    if (auto done = inner_ ? inner_->feed(bytes) : healer_.data(bytes); !done)
      return keep(std::move(done).error());
    return {};
  }
  Status hole(std::uint64_t length) override {
    if (inner_) return {};
    if (auto done = healer_.hole(length); !done) return keep(std::move(done).error());
    return {};
  }
  Status end_entry() override {
    if (inner_) return {};
    if (auto done = healer_.end_file(); !done) return keep(std::move(done).error());
    return {};
  }
  // Keeps an error that is not about the tar.
  [[nodiscard]] std::optional<Error> const& error() const { return error_; }

 private:
  Status keep(Error error) {
    error_ = error;
    return error;
  }
  fsck::Healer& healer_;
  int depth_;
  std::unique_ptr<Stream> inner_{};
  std::optional<Error> error_{};
};

Stream::Stream(fsck::Healer& healer, int depth)
    : files_(std::make_unique<Files>(healer, depth)), tar_(*files_) {}

Status Stream::parse(std::span<std::byte const> bytes) {
  if (over_ || tar_.feed(bytes)) return {};
  over_ = true;  // not a tar, or damaged from here on
  if (files_->error()) return *files_->error();
  return {};
}

Status Stream::decode(std::span<std::byte const> bytes) {
  while (!over_) {
    std::span<std::byte> room(plain_);
    if (!decoder_->run(bytes, room)) over_ = true;
    auto const made = plain_.size() - room.size();
    LCFS_TRY(parse(std::span<std::byte const>(plain_).first(made)));
    if (bytes.empty() && !room.empty()) break;
  }
  return {};
}

Status Stream::feed(std::span<std::byte const> bytes) {
  constexpr std::size_t kHead = 16;
  if (over_) return {};
  if (known_) return decoder_ ? decode(bytes) : parse(bytes);
  head_.insert(head_.end(), bytes.begin(), bytes.end());
  if (head_.size() < kHead) return {};
  known_ = true;
  if (auto const what = importer::sniff(head_); what != importer::Compression::kNone) {
    auto decoder = importer::make_decoder(what);
    over_ = !decoder.ok();
    if (over_) return {};
    decoder_ = *std::move(decoder);
    plain_.resize(importer::kChunkBytes);
  }
  auto const head = std::move(head_);
  return decoder_ ? decode(head) : parse(head);
}

Status offer_fd(fsck::Healer& healer, int fd, std::string const& name) {
  Stream stream(healer, 0);
  std::vector<std::byte> buffer(importer::kChunkBytes);
  for (;;) {
    auto const n = ::read(fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::io("cannot read", errno).in(name);
    if (n == 0) return {};
    LCFS_TRY(stream.feed(std::span<std::byte const>(buffer).first(static_cast<std::size_t>(n))));
  }
}

Status offer_file(fsck::Healer& healer, std::string const& path) {
  Fd const fd = open_fd(path, O_RDONLY);
  if (!fd) return Error::io("cannot open", errno).in(path);
  return offer_fd(healer, fd.get(), path);
}

}  // namespace

Status offer_archive(fsck::Healer& healer, std::string const& archive, int input) {
  if (archive == "-") return offer_fd(healer, input, "standard input");
  std::error_code failure;
  if (!std::filesystem::is_directory(archive, failure)) return offer_file(healer, archive);
  std::vector<std::string> files;
  for (std::filesystem::recursive_directory_iterator it(archive, failure), end;
       !failure && it != end; it.increment(failure))
    if (it->is_regular_file(failure)) files.push_back(it->path().string());
  if (failure) return Error::io("cannot read", failure.value()).in(archive);
  std::sort(files.begin(), files.end());
  for (auto const& file : files) {
    LCFS_TRY(offer_file(healer, file));
  }
  return {};
}

}  // namespace lcfs::heal
