// SPDX-License-Identifier: Apache-2.0
#include "device/checks.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <limits>

#include "format/layout.h"

namespace lcfs::device {

namespace {

Error invalid(std::string const& name, std::uint64_t offset, std::string what) {
  return Error::invalid(std::move(what)).in(name).at(offset);
}

bool aligned(void const* p) {
  return reinterpret_cast<std::uintptr_t>(p) % format::kBlockSize == 0;
}

}  // namespace

Status check_range(std::string const& name, std::uint64_t size, std::uint64_t offset,
                   std::uint64_t length) {
  if (offset % format::kBlockSize != 0 || length % format::kBlockSize != 0)
    return invalid(name, offset,
                   fmt::format("range of {} bytes is not made of whole blocks", length));
  if (offset > size || length > size - offset)
    return invalid(
        name, offset,
        fmt::format("range of {} bytes ends beyond the {} bytes of the device", length, size));
  return Ok{};
}

Status check_read(std::string const& name, std::uint64_t size, std::uint64_t offset,
                  std::span<std::byte const> into) {
  LCFS_TRY(check_range(name, size, offset, into.size()));
  if (!aligned(into.data())) return invalid(name, offset, "buffer is not aligned to a block");
  return Ok{};
}

Result<std::uint64_t> check_write(std::string const& name, std::uint64_t size, std::uint64_t offset,
                                  std::span<iovec const> parts) {
  std::uint64_t total = 0;
  for (iovec const& part : parts) {
    if (part.iov_len > std::numeric_limits<std::uint64_t>::max() - total)
      return invalid(name, offset, "write is larger than any device");
    total += part.iov_len;
    if (!aligned(part.iov_base) || part.iov_len % format::kBlockSize != 0)
      return invalid(name, offset, "part of a write is not made of aligned whole blocks");
  }
  LCFS_TRY(check_range(name, size, offset, total));
  return total;
}

Status check_new_size(std::string const& name, std::uint64_t new_size) {
  if (new_size % format::kBlockSize != 0)
    return invalid(name, kNoOffset,
                   fmt::format("size {} is not a multiple of the block size", new_size));
  if (new_size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    return invalid(name, kNoOffset, fmt::format("size {} is larger than a file can be", new_size));
  return Ok{};
}

Error read_only_error(std::string const& name, std::uint64_t offset) {
  return Error::read_only("is open read-only").in(name).at(offset);
}

}  // namespace lcfs::device
