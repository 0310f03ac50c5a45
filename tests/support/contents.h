// SPDX-License-Identifier: Apache-2.0
// What users see of a store, read through the engine: to compare before and after damage.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "device/device.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

inline constexpr char kUnreadable[] = "<reading it says EIO>";

// By "LAYER:/path": type, permissions, and the content, target and attributes; kUnreadable where
// that is so.  A directory is its mode. Images as "image NAME".
using Contents = std::map<std::string, std::string>;

// Nothing if the engine does not open the store.  Never writes.
std::optional<Contents> contents_of(Device& device);

// A copy of all that is on `device`, in memory.
std::unique_ptr<Device> copy_of(Device& device);

}  // namespace lcfs::test
