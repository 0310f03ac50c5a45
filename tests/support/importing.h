// SPDX-License-Identifier: Apache-2.0
// Archives that were built in memory, imported the whole way.
#pragma once

#include <string>
#include <vector>

#include "engine/store.h"
#include "importer/import.h"
#include "tests/support/tar_builder.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

// So that an import does the same each time.
inline importer::ImportOptions one_thread() {
  importer::ImportOptions options;
  options.threads = 1;
  return options;
}

// From a file, which `options` need not name.
Result<importer::ImportReport> import_bytes(Store& store, std::string const& archive,
                                            importer::ImportOptions options = {});

// As an OCI archive of one image, "test".
Result<importer::ImportReport> import_layers(Store& store, std::vector<TestLayer> layers);

}  // namespace lcfs::test
