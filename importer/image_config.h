// SPDX-License-Identifier: Apache-2.0
// The config of an OCI image as something that people read (its history) and make new ones from
// (commit). Specification: OCI image-spec 1.1, config.md and manifest.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/layout.h"
#include "format/result.h"

namespace lcfs::importer {

struct HistoryLine {
  std::string created{}, created_by{}, comment{};  // as they stand there; may be empty
  bool empty_layer = false;                        // it made no layer
};
// Base first.  kCorrupt: no config.
Result<std::vector<HistoryLine>> config_history(std::string_view config);

// One change, as `docker commit --change` and `podman commit --change` have it: a word, "=" or
// blanks, and what it shall be.
//   CMD, ENTRYPOINT   a JSON array, or words for /bin/sh -c; nothing, or []: none
//   ENV, LABEL        KEY=VALUE
//   USER, WORKDIR, STOPSIGNAL   text; nothing: none
//   EXPOSE            ports: "80 53/udp"
//   VOLUME            a JSON array of paths, or paths
struct ConfigChange {
  std::string key{};  // in capitals
  std::string value{};
};
Result<ConfigChange> parse_config_change(std::string_view text);

struct ImageLayer {
  Digest diff_id{};
  std::uint64_t bytes = 0;  // of the plain tar
  bool is_new = false;      // not one of the parent image's: it gets a line of history
};

struct MadeImage {
  std::string config{}, manifest{};
  Digest config_digest{}, manifest_digest{};
};

struct ImagePlan {
  std::optional<std::string>
      parent{};  // config of the image that the layers begin with; none: this machine's platform
  std::vector<ImageLayer> layers{};  // all, base first
  std::vector<ConfigChange> changes{};
  std::string created{};                // RFC 3339
  std::string created_by{}, comment{};  // of the new lines of history
};
// The same plan gives the same bytes.  The manifest names the layers as plain tars.
Result<MadeImage> make_image_documents(ImagePlan const& plan);

}  // namespace lcfs::importer
