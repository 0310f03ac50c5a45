// SPDX-License-Identifier: Apache-2.0
// The part of device.h that all devices share, and opening devices by path.
#include "device/device.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <limits>
#include <new>

#include "device/block_device.h"
#include "device/checks.h"
#include "device/file_device.h"
#include "format/layout.h"

namespace lcfs::device {

namespace {
constexpr std::align_val_t kAlign{format::kBlockSize};
}

Status Device::write(std::uint64_t offset, std::span<std::byte const> data) {
  // iovec serves reads too, so its pointer isn't const; no device writes through it.
  iovec const part{const_cast<std::byte*>(data.data()), data.size()};
  return write(offset, std::span{&part, 1});
}

AlignedBuffer::AlignedBuffer(std::size_t size) : size_(size) {
  if (size > std::numeric_limits<std::size_t>::max() - (format::kBlockSize - 1))
    throw std::bad_alloc();
  std::size_t const rounded =
      (size + (format::kBlockSize - 1)) / format::kBlockSize * format::kBlockSize;
  if (rounded != 0) data_.reset(static_cast<std::byte*>(::operator new[](rounded, kAlign)));
}

void AlignedBuffer::Free::operator()(std::byte* p) const { ::operator delete[](p, kAlign); }

Result<std::unique_ptr<Device>> open_device(std::string const& path, Access access) {
  // Checked before it is opened: opening a fifo waits, and opening a character device can have side
  // effects.
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return Error::io("cannot open", errno).in(path);
  if (S_ISREG(st.st_mode)) return open_file_device(path, access);
  if (S_ISBLK(st.st_mode)) return open_block_device(path, access);
  char const* const is = S_ISDIR(st.st_mode)    ? "a directory"
                         : S_ISCHR(st.st_mode)  ? "a character device"
                         : S_ISFIFO(st.st_mode) ? "a fifo"
                         : S_ISSOCK(st.st_mode) ? "a socket"
                                                : "of an unknown type";
  return Error::invalid(fmt::format("is {}, not a regular file or block device", is)).in(path);
}

}  // namespace lcfs::device
