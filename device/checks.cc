// SPDX-License-Identifier: Apache-2.0
#include "device/checks.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <limits>

#include "format/layout.h"

namespace lcfs {

namespace {

Error invalid(std::string const& name, std::uint64_t offset, std::string what) {
  return Error{Errc::kInvalid, std::move(what), 0, name, offset};
}

bool aligned(void const* p) { return reinterpret_cast<std::uintptr_t>(p) % kBlockSize == 0; }

}  // namespace

Status check_range(std::string const& name, std::uint64_t size, std::uint64_t offset,
                   std::uint64_t length) {
  if (offset % kBlockSize != 0 || length % kBlockSize != 0)
    return invalid(name, offset,
                   fmt::format("a range of {} bytes that is not whole blocks", length));
  if (offset > size || length > size - offset)
    return invalid(
        name, offset,
        fmt::format("a range of {} bytes ends behind the device's {} bytes", length, size));
  return Ok{};
}

Status check_read(std::string const& name, std::uint64_t size, std::uint64_t offset,
                  std::span<std::byte const> into) {
  LCFS_TRY(check_range(name, size, offset, into.size()));
  if (!aligned(into.data()))
    return invalid(name, offset, "a buffer that is not aligned to a block");
  return Ok{};
}

Result<std::uint64_t> check_write(std::string const& name, std::uint64_t size, std::uint64_t offset,
                                  std::span<iovec const> parts) {
  std::uint64_t total = 0;
  for (iovec const& part : parts) {
    if (part.iov_len > std::numeric_limits<std::uint64_t>::max() - total)
      return invalid(name, offset, "parts longer than any device");
    total += part.iov_len;
    if (!aligned(part.iov_base) || part.iov_len % kBlockSize != 0)
      return invalid(name, offset, "a part of a write that is not made of aligned whole blocks");
  }
  LCFS_TRY(check_range(name, size, offset, total));
  return total;
}

Status check_new_size(std::string const& name, std::uint64_t new_size) {
  if (new_size % kBlockSize != 0)
    return invalid(name, kNoOffset, fmt::format("size {} is not whole blocks", new_size));
  if (new_size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    return invalid(name, kNoOffset, fmt::format("size {} is more than a file can have", new_size));
  return Ok{};
}

Error io_error(std::string const& name, std::uint64_t offset, std::string what, int sys) {
  bool const full = sys == ENOSPC || sys == EDQUOT;
  return Error{full ? Errc::kNoSpace : Errc::kIo, std::move(what), sys, name, offset};
}

Error read_only_error(std::string const& name, std::uint64_t offset) {
  return Error{Errc::kReadOnly, "opened to read only", EROFS, name, offset};
}

Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

Fd open_fd(std::string const& path, int flags, unsigned mode) {
  for (;;) {
    int const fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
    if (fd >= 0 || errno != EINTR) return Fd{fd};
  }
}

}  // namespace lcfs
