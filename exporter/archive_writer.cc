// SPDX-License-Identifier: Apache-2.0
#include "exporter/archive_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "exporter/changeset_tar.h"

namespace lcfs::exporter {
namespace {

constexpr std::size_t kTarBlock = 512;
constexpr std::uint64_t kWriteBackBytes = 8u << 20;

Error file_error(std::string const& path, char const* what) {
  return Error::io(what, errno).in(path);
}

std::string parent_of(std::string const& path) {
  auto const slash = path.find_last_of('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

Status write_all(int fd, std::span<std::byte const> bytes, std::string const& path) {
  while (!bytes.empty()) {
    auto const n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return file_error(path, "cannot write");
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

// A file that gets its name only when it is complete.
class WholeFile final : public ByteSink {
 public:
  static Result<std::unique_ptr<WholeFile>> make(std::string const& path) {
    auto file = std::make_unique<WholeFile>();
    file->path_ = path;
    auto const directory = parent_of(path);
    int fd = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
      for (int i = 0; i < 100 && fd < 0; ++i) {
        file->temporary_ = fmt::format("{}.{}-{}", path, ::getpid(), i);
        fd = ::open(file->temporary_.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST) break;
      }
      if (fd < 0) file->temporary_.clear();
    }
    if (fd < 0) return file_error(path, "cannot create");
    file->fd_ = Fd(fd);
    return file;
  }
  WholeFile() = default;
  ~WholeFile() override {
    if (!temporary_.empty()) (void)::unlink(temporary_.c_str());
  }
  WholeFile(WholeFile const&) = delete;
  WholeFile& operator=(WholeFile const&) = delete;

  Status write(std::span<std::byte const> bytes) override {
    LCFS_TRY(write_all(fd_.get(), bytes, path_));
    size_ += bytes.size();
    // Starts write-back while more is made: publish() waits for all of it.
    if (size_ - begun_ >= kWriteBackBytes) {
      (void)::sync_file_range(fd_.get(), static_cast<off_t>(begun_),
                              static_cast<off_t>(size_ - begun_), SYNC_FILE_RANGE_WRITE);
      begun_ = size_;
    }
    return {};
  }
  Status write_at(std::uint64_t at, std::string_view bytes) {
    while (!bytes.empty()) {
      auto const n = ::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(at));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return file_error(path_, "cannot write");
      at += static_cast<std::uint64_t>(n);
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return {};
  }
  Status cut(std::uint64_t size) {
    if (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0 ||
        ::lseek(fd_.get(), static_cast<off_t>(size), SEEK_SET) < 0)
      return file_error(path_, "cannot truncate");
    size_ = size;
    begun_ = std::min(begun_, size);
    return {};
  }
  [[nodiscard]] std::uint64_t size() const { return size_; }

  // Durable before it gets its name, so that a power cut cannot leave half of it.
  Status publish() {
    if (::fdatasync(fd_.get()) != 0 && errno != EINVAL) return file_error(path_, "cannot write");
    if (temporary_.empty()) {
      auto const self = fmt::format("/proc/self/fd/{}", fd_.get());
      if (::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, path_.c_str(), AT_SYMLINK_FOLLOW) == 0)
        return {};
      if (errno != EEXIST) return file_error(path_, "cannot create");
      // A temporary name, so that rename() replaces an existing file in one step.
      for (int i = 0;; ++i) {
        temporary_ = fmt::format("{}.{}-{}", path_, ::getpid(), i);
        if (::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, temporary_.c_str(), AT_SYMLINK_FOLLOW) == 0)
          break;
        if (errno == EEXIST && i < 100) continue;
        temporary_.clear();
        return file_error(path_, "cannot create");
      }
    }
    if (::rename(temporary_.c_str(), path_.c_str()) != 0)
      return file_error(path_, "cannot replace");
    temporary_.clear();
    return {};
  }

 private:
  std::string path_{}, temporary_{};  // temporary_: its name until then
  Fd fd_{};
  std::uint64_t size_ = 0, begun_ = 0;  // begun_: end of the started write-back
};

class TarFile final : public ArchiveWriter {
 public:
  TarFile(std::unique_ptr<WholeFile> file, std::int64_t mtime)
      : file_(std::move(file)), mtime_(mtime) {}

  // After the space for its header, which is written last.
  Status add(std::function<Result<std::string>(ByteSink&)> const& make,
             std::optional<Known> const&) override {
    std::uint64_t const header = file_->size();
    LCFS_TRY(put(std::string(kTarBlock, '\0')));
    LCFS_TRY_ASSIGN(auto const name, make(*file_));
    if (!names_.insert(name).second) return file_->cut(header);
    std::uint64_t const size = file_->size() - header - kTarBlock;
    LCFS_TRY(file_->write_at(header, plain_tar_header(name, size, mtime_)));
    return put(tar_padding(size));
  }
  Status add(std::string const& name, std::string_view bytes) override {
    if (!names_.insert(name).second) return {};
    LCFS_TRY(put(plain_tar_header(name, bytes.size(), mtime_)));
    LCFS_TRY(put(bytes));
    return put(tar_padding(bytes.size()));
  }
  Status finish() override {
    LCFS_TRY(put(std::string(2 * kTarBlock, '\0')));
    return file_->publish();
  }
  [[nodiscard]] std::uint64_t bytes() const override { return file_->size(); }

 private:
  Status put(std::string_view bytes) { return file_->write(std::as_bytes(std::span(bytes))); }

  std::unique_ptr<WholeFile> file_;
  std::int64_t const mtime_;
  std::set<std::string> names_{};
};

class TarStream final : public ArchiveWriter {
 public:
  TarStream(ByteSink& out, std::string spool, std::int64_t mtime)
      : out_(out), spool_(std::move(spool)), mtime_(mtime) {}

  Status add(std::function<Result<std::string>(ByteSink&)> const& make,
             std::optional<Known> const& known) override {
    if (known) {
      if (names_.contains(known->name)) return {};
      LCFS_TRY(put(plain_tar_header(known->name, known->size, mtime_)));
      Counted counted(out_);
      LCFS_TRY_ASSIGN(auto const name, make(counted));
      bytes_ += counted.bytes;
      if (name != known->name || counted.bytes != known->size)
        return Error::corrupt(
            fmt::format("{} changed between two readings of the store", known->name));
      names_.insert(name);
      return put(tar_padding(known->size));
    }
    // An unnamed file: it is gone when it is closed, whatever happens.
    Fd const fd(::open(spool_.c_str(), O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600));
    if (fd.get() < 0) return file_error(spool_, "cannot create a temporary file");
    Spool spool(fd.get(), spool_);
    LCFS_TRY_ASSIGN(auto const name, make(spool));
    if (!names_.insert(name).second) return {};
    LCFS_TRY(put(plain_tar_header(name, spool.bytes, mtime_)));
    std::vector<std::byte> buffer(kCopyBytes);
    for (std::uint64_t at = 0; at < spool.bytes;) {
      auto const n = ::pread(fd.get(), buffer.data(), buffer.size(), static_cast<off_t>(at));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return file_error(spool_, "cannot read the temporary file");
      LCFS_TRY(out_.write(std::span(buffer).first(static_cast<std::size_t>(n))));
      at += static_cast<std::uint64_t>(n);
    }
    bytes_ += spool.bytes;
    return put(tar_padding(spool.bytes));
  }
  Status add(std::string const& name, std::string_view bytes) override {
    if (!names_.insert(name).second) return {};
    LCFS_TRY(put(plain_tar_header(name, bytes.size(), mtime_)));
    LCFS_TRY(put(bytes));
    return put(tar_padding(bytes.size()));
  }
  Status finish() override { return put(std::string(2 * kTarBlock, '\0')); }
  [[nodiscard]] std::uint64_t bytes() const override { return bytes_; }

 private:
  static constexpr std::size_t kCopyBytes = 256u << 10;
  struct Counted final : ByteSink {
    explicit Counted(ByteSink& to) : out(to) {}
    Status write(std::span<std::byte const> b) override {
      bytes += b.size();
      return out.write(b);
    }
    ByteSink& out;
    std::uint64_t bytes = 0;
  };
  struct Spool final : ByteSink {
    Spool(int to, std::string const& where) : fd(to), path(where) {}
    Status write(std::span<std::byte const> b) override {
      bytes += b.size();
      return write_all(fd, b, path);
    }
    int fd;
    std::string const& path;
    std::uint64_t bytes = 0;
  };
  Status put(std::string_view bytes) {
    bytes_ += bytes.size();
    return out_.write(std::as_bytes(std::span(bytes)));
  }

  ByteSink& out_;
  std::string const spool_;
  std::int64_t const mtime_;
  std::set<std::string> names_{};
  std::uint64_t bytes_ = 0;
};

class Directory final : public ArchiveWriter {
 public:
  explicit Directory(std::string path) : path_(std::move(path)) {}
  ~Directory() override {
    std::error_code ignored;
    if (made_) std::filesystem::remove_all(partial_, ignored);
  }
  Status make() {
    // A killed process may have left its directory.
    for (int i = 0; !made_; ++i) {
      partial_ = fmt::format("{}.partial-{}-{}", path_, ::getpid(), i);
      made_ = ::mkdir(partial_.c_str(), 0777) == 0;
      if (!made_ && (errno != EEXIST || i == 100)) return file_error(partial_, "cannot create");
    }
    return {};
  }

  Status add(std::function<Result<std::string>(ByteSink&)> const& make_member,
             std::optional<Known> const&) override {
    LCFS_TRY_ASSIGN(auto const file, WholeFile::make(partial_ + "/member"));
    LCFS_TRY_ASSIGN(auto const name, make_member(*file));
    bytes_ += file->size();
    if (!names_.insert(name).second) return {};
    LCFS_TRY(make_parents(name));
    LCFS_TRY(file->publish());
    if (::rename((partial_ + "/member").c_str(), (partial_ + "/" + name).c_str()) != 0)
      return file_error(partial_ + "/" + name, "cannot create");
    return {};
  }
  Status add(std::string const& name, std::string_view bytes) override {
    return add(
        [&](ByteSink& out) -> Result<std::string> {
          LCFS_TRY(out.write(std::as_bytes(std::span(bytes))));
          return name;
        },
        std::nullopt);
  }
  Status finish() override {
    if (::rename(partial_.c_str(), path_.c_str()) != 0) return file_error(path_, "cannot create");
    made_ = false;
    return {};
  }
  [[nodiscard]] std::uint64_t bytes() const override { return bytes_; }

 private:
  Status make_parents(std::string const& name) {
    for (auto slash = name.find('/'); slash != std::string::npos;
         slash = name.find('/', slash + 1)) {
      auto const directory = partial_ + "/" + name.substr(0, slash);
      if (::mkdir(directory.c_str(), 0777) != 0 && errno != EEXIST)
        return file_error(directory, "cannot create");
    }
    return {};
  }

  std::string const path_;
  std::string partial_{};  // its name until it is complete
  bool made_ = false;
  std::set<std::string> names_{};
  std::uint64_t bytes_ = 0;
};

}  // namespace

Result<std::unique_ptr<ArchiveWriter>> make_tar_file(std::string const& path, std::int64_t mtime) {
  LCFS_TRY_ASSIGN(auto file, WholeFile::make(path));
  return std::unique_ptr<ArchiveWriter>(std::make_unique<TarFile>(std::move(file), mtime));
}

std::unique_ptr<ArchiveWriter> make_tar_stream(ByteSink& out, std::string spool,
                                               std::int64_t mtime) {
  return std::make_unique<TarStream>(out, std::move(spool), mtime);
}

Result<std::unique_ptr<ArchiveWriter>> make_directory(std::string const& path) {
  auto const trimmed = path.substr(0, path.find_last_not_of('/') + 1);
  if (trimmed.empty()) return Error::invalid("is not a directory for an image").in(path);
  std::error_code problem;
  if (std::filesystem::exists(trimmed, problem) && !std::filesystem::is_empty(trimmed, problem))
    return Error::exists("is not empty").in(trimmed);
  auto directory = std::make_unique<Directory>(trimmed);
  LCFS_TRY(directory->make());
  return std::unique_ptr<ArchiveWriter>(std::move(directory));
}

}  // namespace lcfs::exporter
