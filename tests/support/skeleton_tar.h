// SPDX-License-Identifier: Apache-2.0
// The tar of an imported layer, as an export puts it together.  Needs no test framework: fuzzers
// use it too.
#pragma once

#include <string>

#include "engine/store.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

// The skeleton's literals, and bodies from the layer's tree.  kNotFound: the layer has no skeleton.
Result<std::string> tar_from_skeleton(Store& store, LayerId id);

}  // namespace lcfs::test
