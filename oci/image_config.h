// SPDX-License-Identifier: Apache-2.0
// The config of an OCI image: its history to read, and new configs for commit. Specification: OCI
// image-spec 1.1, config.md and manifest.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "format/layout.h"

namespace lcfs::oci {

struct HistoryLine {
  std::string created{}, created_by{}, comment{};  // as in the config; may be empty
  bool empty_layer = false;                        // the line made no layer
};
// Base first.  kCorrupt: no config.
Result<std::vector<HistoryLine>> config_history(std::string_view config);

// One change, as for `docker commit --change` and `podman commit --change`: a word, "=" or blanks,
// and the new value.
//   CMD, ENTRYPOINT            a JSON array, or words for /bin/sh -c; nothing, or []: none
//   ENV, LABEL                 KEY=VALUE
//   USER, WORKDIR, STOPSIGNAL  text; nothing: none
//   EXPOSE                     ports: "80 53/udp"
//   VOLUME                     a JSON array of paths, or paths
struct ConfigChange {
  std::string key{};  // in capitals
  std::string value{};
};
Result<ConfigChange> parse_config_change(std::string_view text);

struct ImageLayer {
  format::Digest diff_id{};
  std::uint64_t bytes = 0;  // of the plain tar
  bool is_new = false;      // not part of the parent image: it gets a line of history
};

struct MadeImage {
  std::string config{}, manifest{};
  format::Digest config_digest{}, manifest_digest{};
};

struct ImagePlan {
  // Config of the base image; none: a config for the platform of this machine.
  std::optional<std::string> parent{};
  std::vector<ImageLayer> layers{};  // all, base first
  std::vector<ConfigChange> changes{};
  std::string created{};                // RFC 3339
  std::string created_by{}, comment{};  // of the new lines of history
};
// The same plan gives the same bytes.  The manifest names the layers as plain tars.
Result<MadeImage> make_image_documents(ImagePlan const& plan);

}  // namespace lcfs::oci
