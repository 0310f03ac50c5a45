// SPDX-License-Identifier: Apache-2.0
#include "device/file_device.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "device/checks.h"
#include "device/fd_device.h"
#include "device/lock.h"
#include "format/layout.h"

namespace lcfs::device {

namespace {

struct Range {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

bool not_supported(int sys) { return sys == EOPNOTSUPP || sys == ENOSYS; }

// fallocate(2), repeated after EINTR; 0 or an errno.
int allocate(int fd, int mode, Range range) {
  for (;;) {
    if (::fallocate(fd, mode, static_cast<off_t>(range.offset), static_cast<off_t>(range.length)) ==
        0)
      return 0;
    if (errno != EINTR) return errno;
  }
}

// The holes in `range`, which have neither written nor unwritten blocks; none if the file system
// does not report them.
std::vector<Range> holes_in(int fd, Range range) {
  constexpr std::uint32_t kBatch = 64;
  std::vector<std::uint64_t> memory((sizeof(fiemap) + kBatch * sizeof(fiemap_extent)) /
                                    sizeof(std::uint64_t));
  auto* const map = reinterpret_cast<fiemap*>(memory.data());
  std::vector<Range> holes;
  std::uint64_t at = range.offset;
  std::uint64_t const end = range.offset + range.length;
  while (at < end) {
    std::fill(memory.begin(), memory.end(), 0);
    map->fm_start = at;
    map->fm_length = end - at;
    map->fm_extent_count = kBatch;
    if (::ioctl(fd, FS_IOC_FIEMAP, map) != 0) return {};
    std::uint32_t const count = map->fm_mapped_extents;
    for (std::uint32_t i = 0; i < count && at < end; ++i) {
      std::uint64_t const start = map->fm_extents[i].fe_logical;
      if (start > at) holes.push_back({at, std::min(start, end) - at});
      at = std::max<std::uint64_t>(at, start + map->fm_extents[i].fe_length);
    }
    if (count < kBatch) break;
  }
  if (at < end) holes.push_back({at, end - at});
  return holes;
}

// The directory where the file system that holds `path` is mounted, or the path itself if that
// is unknown.
std::string host_of(std::string const& path) {
  std::error_code ec;
  auto dir = std::filesystem::canonical(path, ec);
  struct stat st {};
  if (ec || ::stat(dir.c_str(), &st) != 0) return path;
  dev_t const device = st.st_dev;
  while (dir.has_relative_path()) {
    auto up = dir.parent_path();
    if (::stat(up.c_str(), &st) != 0 || st.st_dev != device) break;
    dir = std::move(up);
  }
  return dir.string();
}

class FileDevice final : public FdDevice {
 public:
  FileDevice(Fd fd, std::string name, std::uint64_t size, bool writable)
      : FdDevice(std::move(fd), std::move(name), size, writable) {}

  Status discard(std::uint64_t offset, std::uint64_t length) override {
    return punch(offset, length);
  }
  Status release(std::uint64_t offset, std::uint64_t length) override {
    return punch(offset, length);
  }

  Status reserve(std::uint64_t offset, std::uint64_t length) override {
    LCFS_TRY(check_effect(offset, length));
    if (length == 0) return Ok{};
    // A failed fallocate keeps what it allocated on ext4 and XFS.  To free exactly that and no
    // older block, the holes must be known beforehand.
    Range const range{offset, length};
    auto const holes = holes_in(fd(), range);
    int const sys = allocate(fd(), FALLOC_FL_KEEP_SIZE, range);
    if (sys == 0 || not_supported(sys)) return Ok{};
    for (Range const& hole : holes)
      allocate(fd(), FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, hole);
    return failed(offset, fmt::format("cannot reserve {} bytes", length), sys);
  }

  [[nodiscard]] bool always_backed() const override { return false; }

  Status refresh_size() override {
    struct stat st {};
    if (::fstat(fd(), &st) != 0) return failed(kNoOffset, "cannot examine", errno);
    grow_size(static_cast<std::uint64_t>(st.st_size));
    return Ok{};
  }

  Status resize(std::uint64_t new_size) override {
    if (!writable()) return read_only_error(name(), kNoOffset);
    LCFS_TRY(check_new_size(name(), new_size));
    while (::ftruncate(fd(), static_cast<off_t>(new_size)) != 0) {
      if (errno != EINTR)
        return failed(kNoOffset, fmt::format("cannot resize to {} bytes", new_size), errno);
    }
    set_size(new_size);
    return Ok{};
  }

 protected:
  [[nodiscard]] Error failed(std::uint64_t offset, std::string what, int sys) const override {
    if (sys == ENOSPC || sys == EDQUOT)
      what += fmt::format(" on the host file system at {}", host_of(name()));
    return Error::io(std::move(what), sys).in(name()).at(offset);
  }

 private:
  Status punch(std::uint64_t offset, std::uint64_t length) {
    LCFS_TRY(check_effect(offset, length));
    if (length == 0) return Ok{};
    int const sys = allocate(fd(), FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, {offset, length});
    if (sys == 0 || not_supported(sys)) return Ok{};
    return failed(offset, fmt::format("cannot free {} bytes", length), sys);
  }
};

Status sync_directory_of(std::string const& path) {
  auto parent = std::filesystem::path(path).parent_path();
  if (parent.empty()) parent = ".";
  Fd dir = open_fd(parent.string(), O_RDONLY | O_DIRECTORY);
  // EINVAL: a file system whose directories need no fsync.
  if (!dir || (::fsync(dir.get()) != 0 && errno != EINVAL)) {
    int const sys = errno;
    return Error::io(fmt::format("cannot flush its entry in {}", parent.string()), sys).in(path);
  }
  return Ok{};
}

}  // namespace

Result<std::unique_ptr<Device>> open_file_device(std::string const& path, Access access) {
  bool const writable = access == Access::kReadWrite;
  Fd fd = open_fd(path, (writable ? O_RDWR : O_RDONLY) | O_NOCTTY);
  if (!fd) return Error::io("cannot open", errno).in(path);
  if (access != Access::kReadOnlyNoLock) LCFS_TRY(lock_store(fd.get(), path, writable));
  struct stat st {};
  if (::fstat(fd.get(), &st) != 0) return Error::io("cannot read its size", errno).in(path);
  if (!S_ISREG(st.st_mode)) return Error::invalid("is no longer a regular file").in(path);
  auto const bytes = static_cast<std::uint64_t>(st.st_size);
  return std::unique_ptr<Device>(std::make_unique<FileDevice>(
      std::move(fd), path, bytes / format::kBlockSize * format::kBlockSize, writable));
}

Result<std::unique_ptr<Device>> create_file_device(std::string const& path, std::uint64_t size) {
  LCFS_TRY(check_new_size(path, size));
  Fd fd = open_fd(path, O_RDWR | O_CREAT | O_EXCL | O_NOCTTY, 0600);
  if (!fd) return Error::io("cannot create", errno).in(path);
  Status made = lock_store(fd.get(), path, true);
  auto device = std::make_unique<FileDevice>(std::move(fd), path, 0, true);
  if (made) made = device->resize(size);
  if (made) made = device->flush();
  if (made) made = sync_directory_of(path);
  if (!made) {
    ::unlink(path.c_str());
    return std::move(made).error();
  }
  return std::unique_ptr<Device>(std::move(device));
}

}  // namespace lcfs::device
