// SPDX-License-Identifier: Apache-2.0
// The JSON documents of exported archives: always the same bytes for the same image.
// Specification: OCI image-spec 1.1 (manifest.md, config.md, image-layout.md, image-index.md);
// moby's image/spec/v1.2.md.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "exporter/blob.h"
#include "oci/manifest.h"

namespace lcfs::exporter {

inline constexpr std::string_view kOciLayout = R"({"imageLayoutVersion":"1.0.0"})";

// A minimal config.  created: seconds since 1970; none if unknown.
[[nodiscard]] std::string new_config(oci::Platform const& platform,
                                     std::vector<Digest> const& diff_ids,
                                     std::optional<std::int64_t> created);
// `config` with other diff_ids; its members keep their order.
Result<std::string> with_diff_ids(std::string_view config, std::vector<Digest> const& diff_ids);

// `before`: the imported manifest, whose annotations are kept; or empty.
[[nodiscard]] std::string new_manifest(std::string_view config, std::vector<MadeBlob> const& layers,
                                       std::string_view before);
// True if `manifest` lists exactly this config and these blobs.
[[nodiscard]] bool is_manifest_of(std::string_view manifest, Digest const& config,
                                  std::vector<MadeBlob> const& layers);

struct IndexEntry {
  std::string manifest{};
  oci::Platform platform{};
  std::vector<std::string> names{};
};
[[nodiscard]] std::string new_index(std::vector<IndexEntry> const& images);

struct DockerEntry {
  std::string config{};  // member
  std::vector<std::string> names{};
  std::vector<std::string> layers{};  // members
};
[[nodiscard]] std::string docker_manifest(std::vector<DockerEntry> const& images);

}  // namespace lcfs::exporter
