// SPDX-License-Identifier: Apache-2.0
// fsck shares only format/ and device/ with the engine; it uses their names without a prefix.
#pragma once

#include "device/device.h"
#include "format/layout.h"

namespace lcfs::fsck {

using namespace device;
using namespace format;

}  // namespace lcfs::fsck
