// SPDX-License-Identifier: Apache-2.0
// Small stores kept in tests/data, one for each version of the format and for each defect that fsck
// has a name for: they say what stores of the past look like, whatever the writers of today do.
//
// A file is VERSION.CODE.WHAT.zst, CODE that of the finding, or "sound".  The sound one is a zstd
// frame, the others are frames with the sound one as their prefix (as zstd --patch-from makes
// them), some hundred bytes each.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "device/device.h"
#include "format/layout.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

// If $LCFS_KEEP_IMAGES names a folder, writes the device there; the sound one first.  Else nothing.
void keep_image(Device& device, std::string_view code, std::string_view what);

struct KeptImage {
  std::string name{};  // of the file
  std::string version{}, code{};
  std::unique_ptr<Device> device{};  // in memory
};
// All in `folder`, by name.  Fails the test if one can't be unpacked.
std::vector<KeptImage> kept_images(std::string const& folder);

}  // namespace lcfs::test
