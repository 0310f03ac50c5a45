// SPDX-License-Identifier: Apache-2.0
// From the documents of an archive to the images it holds: which there are, which are wanted, and
// for each the chain of layers with all digests they must have.  Reads documents only, no layer.
// Forms: OCI image layout (directory or tar), docker-archive of podman, skopeo and every docker
// since 1.10, and archives that are both (docker 25 and later): the OCI side is used then, and the
// tags of the other side are added.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "format/layout.h"
#include "format/result.h"
#include "importer/archive.h"
#include "importer/oci.h"

namespace lcfs::importer {

struct PlanOptions {
  std::vector<std::string> names{};    // images wanted, by a name of theirs; empty: all
  std::optional<Platform> platform{};  // empty: the host's, where there is a choice
};

struct PlannedLayer {
  std::string member{};                 // of the archive
  std::optional<Digest> blob_digest{};  // what the bytes must hash to, if the archive says so
  std::optional<std::uint64_t> blob_size{};
  Digest diff_id{}, chain_id{};
};

struct PlannedImage {
  std::vector<std::string> names{};
  Platform platform{};
  Digest config_digest{}, manifest_digest{};
  std::string config{};
  std::shared_ptr<std::string const> manifest{}, index{};  // raw; index may be null
  std::vector<PlannedLayer> layers{};                      // base first
};

// Every image named once, in the archive's order.  Errors name archive and member; kNotFound for
// names and platforms that aren't there, with those that are.
Result<std::vector<PlannedImage>> plan_images(Archive& archive, PlanOptions const& options);

// Do both mean the same image?  "x", "x:latest", "library/x", "docker.io/library/x:latest" do.
[[nodiscard]] bool same_image_name(std::string_view a, std::string_view b);

}  // namespace lcfs::importer
