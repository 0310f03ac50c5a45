// SPDX-License-Identifier: Apache-2.0
// Tests speak the words of the folders that they test without a prefix.
#pragma once

#include "device/device.h"
#include "format/layout.h"

namespace lcfs::oci {}
namespace lcfs::extract {}
namespace lcfs::verify {}

namespace lcfs::test {

using namespace device;
using namespace extract;
using namespace format;
using namespace oci;
using namespace verify;

}  // namespace lcfs::test
