// SPDX-License-Identifier: Apache-2.0
// Reads the documents of an archive to plan an import: which images it has, which are selected, and
// for each the chain of layers with their expected digests.  Reads no layers.
// Forms: OCI image layout (directory or tar), docker-archive of podman, skopeo and every docker
// since 1.10, and archives that are both (docker 25 and later): then the OCI documents are used,
// and the tags of the docker manifest are added.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "format/layout.h"
#include "importer/archive.h"
#include "oci/manifest.h"

namespace lcfs::importer {

struct PlanOptions {
  std::vector<std::string> names{};         // images to select, by any of their names; empty: all
  std::optional<oci::Platform> platform{};  // empty: the host's, where there is a choice
};

struct PlannedLayer {
  std::string member{};  // of the archive
  // Expected SHA-256 of the blob, if the archive has it.
  std::optional<format::Digest> blob_digest{};
  std::optional<std::uint64_t> blob_size{};
  format::Digest diff_id{}, chain_id{};
};

struct PlannedImage {
  std::vector<std::string> names{};
  oci::Platform platform{};
  format::Digest config_digest{}, manifest_digest{};
  std::string config{};
  std::shared_ptr<std::string const> manifest{}, index{};  // raw; index may be null
  std::vector<PlannedLayer> layers{};                      // base first
};

// Every image named once, in the archive's order.  Errors name archive and member; kNotFound for
// missing names and platforms; the message lists those that exist.
Result<std::vector<PlannedImage>> plan_images(Archive& archive, PlanOptions const& options);

}  // namespace lcfs::importer
