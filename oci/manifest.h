// SPDX-License-Identifier: Apache-2.0
// The JSON documents of image archives, parsed once into checked types.
// Specification: OCI image-spec 1.1 (image-layout.md, image-index.md, manifest.md, config.md,
// descriptor.md); Docker image manifest v2 schema 2; docker-archive manifest.json of moby's
// image/spec/v1.2.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "format/layout.h"

namespace lcfs::oci {

inline constexpr std::size_t kMaxLayers = 16384;     // of one image
inline constexpr std::size_t kMaxManifests = 10000;  // of one index, and of one archive

struct Platform {
  std::string os{}, architecture{}, variant{};
  friend bool operator==(Platform const&, Platform const&) = default;
};

struct Descriptor {
  std::string media_type{};  // may be empty: older tools omit it
  format::Digest digest{};
  std::uint64_t size = 0;
  std::optional<Platform> platform{};
  std::vector<std::string> names{};  // from annotations, the most complete first
  bool attestation = false;          // about another manifest, not an image
  bool artifact = false;             // has an artifactType
};

enum class DocumentKind : std::uint8_t { kManifest, kIndex };

struct Manifest {
  Descriptor config{};
  std::vector<Descriptor> layers{};
  bool artifact = false;
};

struct ImageConfig {
  Platform platform{};
  std::vector<format::Digest> diff_ids{};
};

// One entry of docker-archive's manifest.json; paths in the archive.
struct DockerImage {
  std::string config{};
  std::vector<std::string> tags{}, layers{};
};

// All errors: kCorrupt or kUnsupported, with the JSON path in the message.
Result<std::vector<Descriptor>> parse_index(std::string_view text);
Result<Manifest> parse_manifest(std::string_view text);
Result<ImageConfig> parse_config(std::string_view text);
Result<std::vector<DockerImage>> parse_docker_manifest(std::string_view text);
Status check_oci_layout(std::string_view text);  // version 1.x

// The kind of a document by its media type; if that is empty or generic, by its members.
Result<DocumentKind> document_kind(std::string_view media_type, std::string_view text);
// kUnsupported for encrypted layers and for media types that are not layers.
Status check_layer_type(std::string_view media_type);
// kUnsupported unless it is the config of an image.
Status check_config_type(std::string_view media_type);

}  // namespace lcfs::oci
