// SPDX-License-Identifier: Apache-2.0
// The OCI side of plan.h: index.json, nested indexes, platforms.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "importer/plan.h"

namespace lcfs::importer {

// What a document under `member` says that it is must be true: size and SHA-256.
Result<std::string> verified_document(Archive& archive, std::string_view member,
                                      oci::Descriptor const& descriptor);

// "blobs/sha256/HEX"
[[nodiscard]] std::string blob_path(format::Digest const& digest);

// Gives `image` its layers and their chain ids; their number must be that of the config's diff_ids.
Status set_layers(PlannedImage& image, oci::ImageConfig const& config,
                  std::vector<PlannedLayer> layers);

// The images of an OCI layout.  Roots whose names are known and for which `wanted` is false are not
// looked at.
Result<std::vector<PlannedImage>> plan_oci(
    Archive& archive, PlanOptions const& options,
    std::function<bool(std::vector<std::string> const&)> const& wanted);

}  // namespace lcfs::importer
