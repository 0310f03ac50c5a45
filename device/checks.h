// SPDX-License-Identifier: Apache-2.0
// What all devices share: checks of arguments against the contract of device.h, and errors that
// say where.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"
#include "device/device.h"

namespace lcfs::device {

// [offset, offset + length) consists of whole blocks inside [0, size).  An empty range may be
// at the very end.
Status check_range(std::string const& name, std::uint64_t size, std::uint64_t offset,
                   std::uint64_t length);

// Checks the range and the buffer it is read into.
Status check_read(std::string const& name, std::uint64_t size, std::uint64_t offset,
                  std::span<std::byte const> into);

// Checks the range that `parts` fill, and each of them; returns its length.  Empty parts are
// allowed.
Result<std::uint64_t> check_write(std::string const& name, std::uint64_t size, std::uint64_t offset,
                                  std::span<iovec const> parts);

// Checks a new size for resize(): whole blocks, and not beyond the largest file offset.
Status check_new_size(std::string const& name, std::uint64_t new_size);

// The error of a write to a device that is open read-only.
Error read_only_error(std::string const& name, std::uint64_t offset);

}  // namespace lcfs::device
