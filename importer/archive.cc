// SPDX-License-Identifier: Apache-2.0
#include "importer/archive.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "importer/layer_receiver.h"
#include "importer/tar_reader.h"
#include "oci/json.h"
#include "oci/quote.h"

namespace lcfs::importer {
namespace {

constexpr std::size_t kMaxMembers = 1'000'000;
constexpr std::size_t kMaxNameBytes = std::size_t{256} << 20;  // of all members' names and links
constexpr int kMaxLinks = 16;
constexpr std::size_t kHeaderWindow = 4096;  // bytes read where a header is expected

Error not_found() { return Error::not_found("is not in the archive"); }

// Fills a member table from the headers of a tar.
class Indexer final : public TarHandler {
 public:
  Indexer(MemberTable& table, TarReader const& reader) : table_(table), reader_(reader) {}

  Status entry(TarEntry&& entry) override {
    switch (entry.type) {
      case TarType::kFile:
        size_ = entry.size;
        path_ = std::move(entry.path);
        plain_ = reader_.skippable() >= size_;
        if (!plain_)
          return Error::unsupported(
              fmt::format("member {} is a sparse file", oci::printable(path_)));
        return table_.add(path_, {reader_.offset(), size_, {}});
      case TarType::kSymlink: return table_.add_symlink(entry.path, entry.link);
      case TarType::kHardlink: return table_.add_hardlink(entry.path, entry.link);
      default: return {};
    }
  }
  Status data(std::span<std::byte const> /*bytes*/) override { return {}; }
  Status hole(std::uint64_t /*length*/) override { return {}; }
  Status end_entry() override { return {}; }

  [[nodiscard]] std::string const& path() const { return path_; }

 private:
  MemberTable& table_;
  TarReader const& reader_;
  std::string path_{};
  std::uint64_t size_ = 0;
  bool plain_ = true;
};

class TarArchive final : public SeekableArchive {
 public:
  TarArchive(Fd file, std::uint64_t size, std::string name)
      : file_(std::make_shared<Fd const>(std::move(file))), size_(size), name_(std::move(name)) {}

  Status index(std::atomic<bool> const* stop) {
    TarReaderSlot slot{table_};
    std::array<std::byte, kHeaderWindow> window;
    while (!slot.reader.ended() && slot.reader.offset() < size_) {
      if (stop != nullptr && stop->load()) return Error::interrupted();
      std::uint64_t const at = slot.reader.offset();
      if (std::uint64_t const skip = slot.reader.skippable(); skip > 0) {
        if (skip > size_ - at) {
          return oci::in_member(
              Error::corrupt(
                  fmt::format("archive is cut short: {} bytes are missing", skip - (size_ - at))),
              name_, slot.indexer.path());
        }
        LCFS_TRY(slot.reader.skip(skip));
        continue;
      }
      // Feeds one header block at a time from a window, so that file data is never fed.
      auto const n = static_cast<std::size_t>(std::min<std::uint64_t>(window.size(), size_ - at));
      if (auto ok = Range{file_, 0, size_}.read(at, std::span(window).first(n)); !ok)
        return oci::in_member(ok.error(), name_, "");
      for (std::size_t i = 0; i < n && slot.reader.skippable() == 0 && !slot.reader.ended();) {
        auto const piece = std::min(kTarBlock, n - i);
        if (auto ok = slot.reader.feed(std::span(window).subspan(i, piece)); !ok)
          return oci::in_member(ok.error(), name_, "");
        i += piece;
      }
    }
    if (auto ok = slot.reader.finish(); !ok) return oci::in_member(ok.error(), name_, "");
    return {};
  }

  [[nodiscard]] std::string const& name() const override { return name_; }

  [[nodiscard]] std::optional<std::uint64_t> size(std::string_view member) const override {
    auto const* found = table_.find(member);
    if (found == nullptr) return std::nullopt;
    return found->size;
  }

  Result<Range> open(std::string_view member) override {
    auto const* found = table_.find(member);
    if (found == nullptr) return oci::in_member(not_found(), name_, member);
    return Range{file_, found->offset, found->size};
  }

 private:
  // The reader and its handler refer to each other.
  struct TarReaderSlot {
    explicit TarReaderSlot(MemberTable& table) : indexer(table, reader), reader(indexer) {}
    Indexer indexer;
    TarReader reader;
  };

  std::shared_ptr<Fd const> file_;
  std::uint64_t size_;
  std::string name_;
  MemberTable table_;
};

class DirectoryArchive final : public SeekableArchive {
 public:
  DirectoryArchive(Fd directory, std::string name)
      : directory_(std::move(directory)), name_(std::move(name)) {}

  [[nodiscard]] std::string const& name() const override { return name_; }

  [[nodiscard]] std::optional<std::uint64_t> size(std::string_view member) const override {
    struct stat st {};
    if (!safe(member) || fstatat(directory_.get(), std::string(member).c_str(), &st, 0) != 0 ||
        !S_ISREG(st.st_mode)) {
      return std::nullopt;
    }
    return static_cast<std::uint64_t>(st.st_size);
  }

  Result<Range> open(std::string_view member) override {
    if (!safe(member)) return oci::in_member(not_found(), name_, member);
    Fd file(openat(directory_.get(), std::string(member).c_str(),
                   O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (file.get() < 0) {
      if (errno == ENOENT || errno == ENOTDIR) return oci::in_member(not_found(), name_, member);
      return oci::in_member(Error::io("cannot open", errno), name_, member);
    }
    struct stat st {};
    if (fstat(file.get(), &st) != 0)
      return oci::in_member(Error::io("cannot stat", errno), name_, member);
    if (!S_ISREG(st.st_mode))
      return oci::in_member(Error::invalid("is not a regular file"), name_, member);
    return Range{std::make_shared<Fd const>(std::move(file)), 0,
                 static_cast<std::uint64_t>(st.st_size)};
  }

 private:
  // Names come from manifests: they must not lead out of the directory.
  static bool safe(std::string_view member) {
    if (member.empty() || member.front() == '/' || member.find('\0') != std::string_view::npos)
      return false;
    return ("/" + std::string(member) + "/").find("/../") == std::string::npos;
  }

  Fd directory_;
  std::string name_;
};

}  // namespace

std::string MemberTable::normalize(std::string_view path) {
  std::vector<std::string_view> parts;
  while (!path.empty()) {
    auto const slash = std::min(path.find('/'), path.size());
    std::string_view const part = path.substr(0, slash);
    path.remove_prefix(std::min(slash + 1, path.size()));
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      parts.push_back(part);
    } else if (!parts.empty()) {
      parts.pop_back();
    }
  }
  return fmt::format("{}", fmt::join(parts, "/"));
}

Status MemberTable::add(std::string_view name, Member member) {
  if (members_.size() >= kMaxMembers)
    return Error::unsupported(fmt::format("has more than {} members", kMaxMembers));
  name_bytes_ += name.size() + member.link.size();
  if (name_bytes_ > kMaxNameBytes)
    return Error::unsupported("the names of its members are too long in total");
  members_.insert_or_assign(normalize(name), std::move(member));
  return {};
}

Status MemberTable::add_symlink(std::string_view name, std::string_view target) {
  auto const base = normalize(name);
  auto const slash = base.rfind('/');
  std::string full = slash == std::string::npos || target.starts_with('/')
                         ? std::string()
                         : base.substr(0, slash + 1);
  full.append(target);
  return add(name, Member{0, 0, normalize(full)});
}

Status MemberTable::add_hardlink(std::string_view name, std::string_view target) {
  return add(name, {0, 0, normalize(target)});
}

MemberTable::Member const* MemberTable::find(std::string_view name) const {
  std::string at = normalize(name);
  for (int links = 0; links <= kMaxLinks; ++links) {
    auto const it = members_.find(at);
    if (it == members_.end()) return nullptr;
    if (it->second.link.empty()) return &it->second;
    at = it->second.link;
  }
  return nullptr;
}

Status Range::read(std::uint64_t at, std::span<std::byte> into) const {
  if (at > size || into.size() > size - at) return Error::corrupt("is cut short");
  while (!into.empty()) {
    ssize_t const n = pread(file->get(), into.data(), into.size(), static_cast<off_t>(offset + at));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::io("cannot read", errno);
    if (n == 0) return Error::corrupt("is cut short");
    at += static_cast<std::uint64_t>(n);
    into = into.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

Result<std::string> SeekableArchive::document(std::string_view member) {
  LCFS_TRY_ASSIGN(auto const range, open(member));
  if (range.size > oci::kMaxDocument) {
    return oci::in_member(Error::unsupported(fmt::format("document of {} bytes; the maximum is {}",
                                                         range.size, oci::kMaxDocument)),
                          name(), member);
  }
  std::string text(static_cast<std::size_t>(range.size), '\0');
  if (auto ok = range.read(0, std::as_writable_bytes(std::span(text.data(), text.size()))); !ok) {
    return oci::in_member(std::move(ok).error(), name(), member);
  }
  return text;
}

Result<std::unique_ptr<SeekableArchive>> open_tar_archive(Fd file, std::uint64_t size,
                                                          std::string name,
                                                          std::atomic<bool> const* stop) {
  auto archive = std::make_unique<TarArchive>(std::move(file), size, std::move(name));
  LCFS_TRY(archive->index(stop));
  return std::unique_ptr<SeekableArchive>(std::move(archive));
}

Result<std::unique_ptr<SeekableArchive>> open_directory_archive(Fd directory, std::string name) {
  return std::unique_ptr<SeekableArchive>(
      std::make_unique<DirectoryArchive>(std::move(directory), std::move(name)));
}

}  // namespace lcfs::importer
