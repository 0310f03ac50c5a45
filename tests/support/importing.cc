// SPDX-License-Identifier: Apache-2.0
#include "tests/support/importing.h"

#include <utility>

#include "tests/support/support.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

Result<importer::ImportReport> import_bytes(Store& store, std::string const& archive,
                                            importer::ImportOptions options) {
  TempDir const dir;
  options.source = dir.file("a.tar");
  write_file(options.source, archive);
  return importer::import_archive(store, options);
}

Result<importer::ImportReport> import_layers(Store& store, std::vector<TestLayer> layers) {
  TestImage image;
  image.layers = std::move(layers);
  return import_bytes(store, tar_of(oci_members({image})));
}

}  // namespace lcfs::test
