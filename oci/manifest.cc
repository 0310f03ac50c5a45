// SPDX-License-Identifier: Apache-2.0
#include "oci/manifest.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "format/records.h"
#include "oci/json.h"
#include "oci/quote.h"

namespace lcfs::oci {
namespace {

constexpr std::string_view kOciManifest = "application/vnd.oci.image.manifest.v1+json";
constexpr std::string_view kOciIndex = "application/vnd.oci.image.index.v1+json";
constexpr std::string_view kDockerManifest = "application/vnd.docker.distribution.manifest.v2+json";
constexpr std::string_view kDockerList =
    "application/vnd.docker.distribution.manifest.list.v2+json";
constexpr std::size_t kMaxTags = 10000;  // of one image

Result<format::Digest> digest_of(JsonNode const& node) {
  LCFS_TRY_ASSIGN(auto const text, node.text());
  if (text.starts_with("sha256:")) {
    if (auto digest = format::parse_digest_text(text)) return *digest;
  } else if (auto const colon = text.find(':'); colon != std::string::npos && colon > 0) {
    return Error::unsupported(fmt::format("{}: digest algorithm {} is not supported (only sha256)",
                                          node.where(), printable(text.substr(0, colon))));
  }
  return Error::corrupt(fmt::format("{}: \"{}\" is not a digest", node.where(), printable(text)));
}

Result<std::optional<Platform>> platform_of(JsonNode const& descriptor) {
  LCFS_TRY_ASSIGN(auto const node, descriptor.find("platform"));
  if (!node) return std::optional<Platform>{};
  Platform platform;
  LCFS_TRY_ASSIGN(platform.os, node->text_or("os", ""));
  LCFS_TRY_ASSIGN(platform.architecture, node->text_or("architecture", ""));
  LCFS_TRY_ASSIGN(platform.variant, node->text_or("variant", ""));
  return std::optional<Platform>(platform);
}

// containerd's annotation has the full name; the other one may be full, or the tag alone.
Status read_annotations(JsonNode const& node, Descriptor& into) {
  LCFS_TRY_ASSIGN(auto const notes, node.find("annotations"));
  if (!notes) return {};
  LCFS_TRY_ASSIGN(auto full, notes->text_or("io.containerd.image.name", ""));
  LCFS_TRY_ASSIGN(auto reference, notes->text_or("org.opencontainers.image.ref.name", ""));
  if (!full.empty()) {
    into.names.push_back(std::move(full));
  } else if (!reference.empty()) {
    into.names.push_back(std::move(reference));
  }
  LCFS_TRY_ASSIGN(auto const about, notes->text_or("vnd.docker.reference.type", ""));
  into.attestation = !about.empty();
  return {};
}

Result<Descriptor> descriptor_of(JsonNode const& node) {
  Descriptor d;
  LCFS_TRY_ASSIGN(d.media_type, node.text_or("mediaType", ""));
  LCFS_TRY_ASSIGN(auto const digest, node.get("digest"));
  LCFS_TRY_ASSIGN(d.digest, digest_of(digest));
  LCFS_TRY_ASSIGN(auto const size, node.get("size"));
  LCFS_TRY_ASSIGN(d.size, size.number());
  LCFS_TRY_ASSIGN(d.platform, platform_of(node));
  LCFS_TRY_ASSIGN(auto const artifact, node.text_or("artifactType", ""));
  d.artifact = !artifact.empty();
  LCFS_TRY(read_annotations(node, d));
  if (d.platform && d.platform->os == "unknown" && d.platform->architecture == "unknown")
    d.attestation = true;
  return d;
}

Result<std::vector<std::string>> texts_of(std::vector<JsonNode> const& nodes) {
  std::vector<std::string> texts;
  texts.reserve(nodes.size());
  for (auto const& node : nodes) {
    LCFS_TRY_ASSIGN(auto text, node.text());
    texts.push_back(std::move(text));
  }
  return texts;
}

Error schema1() {
  return Error::unsupported(
      "image manifest schema 1 is not supported; convert it with `skopeo copy`");
}

}  // namespace

Result<std::vector<Descriptor>> parse_index(std::string_view text) {
  LCFS_TRY_ASSIGN(auto const root, JsonNode::parse(text));
  LCFS_TRY_ASSIGN(auto const manifests, root.get("manifests"));
  LCFS_TRY_ASSIGN(auto const nodes, manifests.elements(kMaxManifests));
  std::vector<Descriptor> all;
  all.reserve(nodes.size());
  for (auto const& node : nodes) {
    LCFS_TRY_ASSIGN(auto d, descriptor_of(node));
    all.push_back(std::move(d));
  }
  return all;
}

Result<Manifest> parse_manifest(std::string_view text) {
  LCFS_TRY_ASSIGN(auto const root, JsonNode::parse(text));
  Manifest m;
  LCFS_TRY_ASSIGN(auto const artifact, root.text_or("artifactType", ""));
  m.artifact = !artifact.empty();
  LCFS_TRY_ASSIGN(auto const legacy, root.find("fsLayers"));
  if (legacy) return schema1();
  LCFS_TRY_ASSIGN(auto const config, root.get("config"));
  LCFS_TRY_ASSIGN(m.config, descriptor_of(config));
  LCFS_TRY_ASSIGN(auto const layers, root.list_of("layers", kMaxLayers));
  m.layers.reserve(layers.size());
  for (auto const& node : layers) {
    LCFS_TRY_ASSIGN(auto d, descriptor_of(node));
    m.layers.push_back(std::move(d));
  }
  return m;
}

Result<ImageConfig> parse_config(std::string_view text) {
  LCFS_TRY_ASSIGN(auto const root, JsonNode::parse(text));
  ImageConfig config;
  LCFS_TRY_ASSIGN(config.platform.os, root.text_or("os", ""));
  LCFS_TRY_ASSIGN(config.platform.architecture, root.text_or("architecture", ""));
  LCFS_TRY_ASSIGN(config.platform.variant, root.text_or("variant", ""));
  LCFS_TRY_ASSIGN(auto const rootfs, root.get("rootfs"));
  LCFS_TRY_ASSIGN(auto const type, rootfs.text_or("type", "layers"));
  if (type != "layers")
    return Error::unsupported(
        fmt::format("{}.type is \"{}\", not \"layers\"", rootfs.where(), printable(type)));
  LCFS_TRY_ASSIGN(auto const ids, rootfs.list_of("diff_ids", kMaxLayers));
  config.diff_ids.reserve(ids.size());
  for (auto const& id : ids) {
    LCFS_TRY_ASSIGN(auto const digest, digest_of(id));
    config.diff_ids.push_back(digest);
  }
  return config;
}

Result<std::vector<DockerImage>> parse_docker_manifest(std::string_view text) {
  LCFS_TRY_ASSIGN(auto const root, JsonNode::parse(text));
  if (root.is_object()) {
    return Error::unsupported(
        "manifest.json of a registry image, not of a docker archive (skopeo's dir: layout is not "
        "supported)");
  }
  LCFS_TRY_ASSIGN(auto const entries, root.elements(kMaxManifests));
  std::vector<DockerImage> images;
  images.reserve(entries.size());
  for (auto const& entry : entries) {
    DockerImage image;
    LCFS_TRY_ASSIGN(image.config, entry.text_of("Config"));
    LCFS_TRY_ASSIGN(auto const tags, entry.list_of("RepoTags", kMaxTags));
    LCFS_TRY_ASSIGN(image.tags, texts_of(tags));
    LCFS_TRY_ASSIGN(auto const layers, entry.list_of("Layers", kMaxLayers));
    LCFS_TRY_ASSIGN(image.layers, texts_of(layers));
    images.push_back(std::move(image));
  }
  return images;
}

Status check_oci_layout(std::string_view text) {
  LCFS_TRY_ASSIGN(auto const root, JsonNode::parse(text));
  LCFS_TRY_ASSIGN(auto const version, root.text_of("imageLayoutVersion"));
  if (!version.starts_with("1."))
    return Error::unsupported(
        fmt::format("OCI layout version \"{}\" is not supported", printable(version)));
  return {};
}

Result<DocumentKind> document_kind(std::string_view media_type, std::string_view text) {
  if (media_type == kOciManifest || media_type == kDockerManifest) return DocumentKind::kManifest;
  if (media_type == kOciIndex || media_type == kDockerList) return DocumentKind::kIndex;
  if (media_type.starts_with("application/vnd.docker.distribution.manifest.v1+")) return schema1();
  if (!media_type.empty()) {
    return Error::unsupported(
        fmt::format("media type \"{}\" is not an image manifest or index", printable(media_type)));
  }
  LCFS_TRY_ASSIGN(auto const root, JsonNode::parse(text));
  LCFS_TRY_ASSIGN(auto const legacy, root.find("fsLayers"));
  if (legacy) return schema1();
  LCFS_TRY_ASSIGN(auto const manifests, root.find("manifests"));
  return manifests ? DocumentKind::kIndex : DocumentKind::kManifest;
}

Status check_layer_type(std::string_view media_type) {
  if (media_type.ends_with("+encrypted")) {
    return Error::unsupported(
        fmt::format("encrypted layer ({}); decrypt the image first", printable(media_type)));
  }
  static constexpr std::array<std::string_view, 12> kKnown{
      "application/vnd.oci.image.layer.v1.tar",
      "application/vnd.oci.image.layer.v1.tar+gzip",
      "application/vnd.oci.image.layer.v1.tar+zstd",
      "application/vnd.oci.image.layer.nondistributable.v1.tar",
      "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
      "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
      "application/vnd.docker.image.rootfs.diff.tar",
      "application/vnd.docker.image.rootfs.diff.tar.gzip",
      "application/vnd.docker.image.rootfs.diff.tar.zstd",
      "application/vnd.docker.image.rootfs.foreign.diff.tar",
      "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
      "",  // omitted: its content decides
  };
  if (std::find(kKnown.begin(), kKnown.end(), media_type) != kKnown.end()) return {};
  return Error::unsupported(
      fmt::format("layer media type \"{}\" is not supported", printable(media_type)));
}

Status check_config_type(std::string_view media_type) {
  if (media_type.empty() || media_type == "application/vnd.oci.image.config.v1+json" ||
      media_type == "application/vnd.docker.container.image.v1+json") {
    return {};
  }
  return Error::unsupported(
      fmt::format("not an image but an artifact (its config is \"{}\")", printable(media_type)));
}

}  // namespace lcfs::oci
