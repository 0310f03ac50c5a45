// SPDX-License-Identifier: Apache-2.0
#include "device/block_device.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <thread>
#include <utility>

#include "base/fd.h"
#include "device/checks.h"
#include "device/fd_device.h"
#include "device/lock.h"
#include "format/layout.h"

namespace lcfs::device {

namespace {

class BlockDevice final : public FdDevice {
 public:
  // backing: the locked backing file of a loop device; else none.
  BlockDevice(Fd fd, Fd backing, std::string name, std::uint64_t size, bool writable)
      : FdDevice(std::move(fd), std::move(name), size, writable), backing_(std::move(backing)) {}

  Status discard(std::uint64_t offset, std::uint64_t length) override {
    LCFS_TRY(check_effect(offset, length));
    if (length == 0) return Ok{};
    std::array<std::uint64_t, 2> range{offset, length};
    while (::ioctl(fd(), BLKDISCARD, range.data()) != 0) {
      if (errno == EINTR) continue;
      // The disk cannot discard, or (EINVAL) not in blocks, because its sectors are larger: nothing
      // to free.
      if (errno == EOPNOTSUPP || errno == ENOTTY || errno == EINVAL) break;
      return failed(offset, fmt::format("cannot discard {} bytes", length), errno);
    }
    return Ok{};
  }

  Status reserve(std::uint64_t offset, std::uint64_t length) override {
    return check_effect(offset, length);
  }
  Status release(std::uint64_t offset, std::uint64_t length) override {
    return check_effect(offset, length);
  }
  [[nodiscard]] bool always_backed() const override { return true; }

  Status refresh_size() override {
    std::uint64_t bytes = 0;
    if (::ioctl(fd(), BLKGETSIZE64, &bytes) != 0)
      return failed(kNoOffset, "cannot read its size", errno);
    grow_size(bytes);
    return Ok{};
  }

  Status resize(std::uint64_t) override {
    return Error::unsupported("a block device cannot be resized").in(name());
  }

 private:
  Fd const backing_;
};

// The backing file of a loop device; none for other devices, or if the file is not visible.
Fd backing_file(int device, dev_t number) {
  loop_info64 info{};
  if (major(number) != LOOP_MAJOR || ::ioctl(device, LOOP_GET_STATUS64, &info) != 0) return {};
  std::ifstream text(
      fmt::format("/sys/dev/block/{}:{}/loop/backing_file", major(number), minor(number)));
  std::string path;
  std::getline(text, path);
  Fd file = open_fd(path, O_RDONLY | O_NOCTTY);
  struct stat st {};
  bool const same = file && ::fstat(file.get(), &st) == 0 && st.st_ino == info.lo_inode;
  return same ? std::move(file) : Fd{};
}

// The error for EBUSY of an exclusive open: another lcfs, which also holds the lock, or the kernel.
Error busy(std::string const& path) {
  if (Fd fd = open_fd(path, O_RDONLY | O_NOCTTY); fd) {
    if (auto pid = lock_holder(fd.get())) return in_use(path, pid);
  }
  return Error::busy("is mounted or in use by the system").in(path);
}

Status lock_patiently(int fd, std::string const& path, bool exclusive) {
  // udev locks a disk briefly to examine it whenever a writer has closed it.
  constexpr int kTries = 20;
  for (int i = 1;; ++i) {
    Status locked = lock_store(fd, path, exclusive);
    if (locked || locked.error().code != Errc::kBusy || i == kTries) return locked;
    std::this_thread::sleep_for(std::chrono::milliseconds(25));
  }
}

}  // namespace

Result<std::unique_ptr<Device>> open_block_device(std::string const& path, Access access) {
  bool const writable = access == Access::kReadWrite;
  Fd fd = open_fd(path, (writable ? O_RDWR | O_EXCL : O_RDONLY) | O_NOCTTY);
  if (!fd) {
    int const sys = errno;
    return sys == EBUSY ? busy(path) : Error::io("cannot open", sys).in(path);
  }
  if (access != Access::kReadOnlyNoLock) LCFS_TRY(lock_patiently(fd.get(), path, writable));
  struct stat st {};
  if (::fstat(fd.get(), &st) != 0) return Error::io("cannot examine", errno).in(path);
  if (!S_ISBLK(st.st_mode)) return Error::invalid("is no longer a block device").in(path);
  Fd backing = backing_file(fd.get(), st.st_rdev);
  if (backing && access != Access::kReadOnlyNoLock)
    LCFS_TRY(lock_store(backing.get(), path, writable));
  std::uint64_t bytes = 0;
  if (::ioctl(fd.get(), BLKGETSIZE64, &bytes) != 0)
    return Error::io("cannot read its size", errno).in(path);
  return std::unique_ptr<Device>(
      std::make_unique<BlockDevice>(std::move(fd), std::move(backing), path,
                                    bytes / format::kBlockSize * format::kBlockSize, writable));
}

}  // namespace lcfs::device
