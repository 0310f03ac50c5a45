// SPDX-License-Identifier: Apache-2.0
#include "exporter/documents.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "oci/json.h"
#include "oci/sha256.h"

namespace lcfs::exporter {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kManifestType[] = "application/vnd.oci.image.manifest.v1+json";
constexpr char kConfigType[] = "application/vnd.oci.image.config.v1+json";

char const* layer_type(BlobCompression compression) {
  switch (compression) {
    case BlobCompression::kNone: break;
    case BlobCompression::kGzip: return "application/vnd.oci.image.layer.v1.tar+gzip";
    case BlobCompression::kZstd: return "application/vnd.oci.image.layer.v1.tar+zstd";
  }
  return "application/vnd.oci.image.layer.v1.tar";
}

// Text from a store may not be UTF-8, which JSON requires.
std::string dump(Json const& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json root_fs(std::vector<Digest> const& diff_ids) {
  Json ids = Json::array();
  for (auto const& id : diff_ids) ids.push_back(digest_text(id));
  return {{"type", "layers"}, {"diff_ids", std::move(ids)}};
}

// Bounded, like all imported documents: oci/json.h checked it before.
Result<Json> parse(std::string_view text) {
  LCFS_TRY(oci::JsonNode::parse(text));
  return Json::parse(text, nullptr, false);
}

// "repository:tag", or nothing if docker would reject the name.
std::string docker_tag(std::string const& name) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyz0123456789._-/:";
  auto const tag = name.find(':', name.find_last_of('/') + 1);
  if (name.substr(0, tag).find_first_not_of(kAllowed) != std::string::npos) return {};
  return tag == std::string::npos ? name + ":latest" : name;
}

}  // namespace

std::string new_config(oci::Platform const& platform, std::vector<Digest> const& diff_ids,
                       std::optional<std::int64_t> created) {
  Json config;
  if (created)
    config["created"] =
        fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(static_cast<std::time_t>(*created)));
  config["architecture"] = platform.architecture;
  if (!platform.variant.empty()) config["variant"] = platform.variant;
  config["os"] = platform.os;
  config["config"] = Json::object();
  config["rootfs"] = root_fs(diff_ids);
  return dump(config);
}

Result<std::string> with_diff_ids(std::string_view text, std::vector<Digest> const& diff_ids) {
  LCFS_TRY_ASSIGN(auto config, parse(text));
  if (!config.is_object()) return Error::corrupt("the image's config is not a JSON object");
  config["rootfs"] = root_fs(diff_ids);
  return dump(config);
}

std::string new_manifest(std::string_view config, std::vector<MadeBlob> const& layers,
                         std::string_view before) {
  Json manifest;
  manifest["schemaVersion"] = 2;
  manifest["mediaType"] = kManifestType;
  manifest["config"] = {{"mediaType", kConfigType},
                        {"digest", digest_text(oci::sha256(config))},
                        {"size", config.size()}};
  manifest["layers"] = Json::array();
  for (auto const& layer : layers)
    manifest["layers"].push_back({{"mediaType", layer_type(layer.compression)},
                                  {"digest", digest_text(layer.digest)},
                                  {"size", layer.size}});
  if (auto const old = parse(before); old && old->is_object()) {
    if (auto const notes = old->find("annotations"); notes != old->end() && notes->is_object())
      manifest["annotations"] = *notes;
  }
  return dump(manifest);
}

bool is_manifest_of(std::string_view text, Digest const& config,
                    std::vector<MadeBlob> const& layers) {
  auto const manifest = oci::parse_manifest(text);
  if (!manifest || manifest->config.digest != config || manifest->layers.size() != layers.size())
    return false;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (manifest->layers[i].digest != layers[i].digest ||
        manifest->layers[i].size != layers[i].size)
      return false;
  }
  return true;
}

std::string new_index(std::vector<IndexEntry> const& images) {
  Json index;
  index["schemaVersion"] = 2;
  index["mediaType"] = "application/vnd.oci.image.index.v1+json";
  index["manifests"] = Json::array();
  for (auto const& image : images) {
    std::string type = kManifestType;
    if (auto const manifest = parse(image.manifest); manifest && manifest->is_object())
      type = manifest->value("mediaType", type);
    Json descriptor = {{"mediaType", type},
                       {"digest", digest_text(oci::sha256(image.manifest))},
                       {"size", image.manifest.size()}};
    descriptor["platform"] = {{"architecture", image.platform.architecture},
                              {"os", image.platform.os}};
    if (!image.platform.variant.empty()) descriptor["platform"]["variant"] = image.platform.variant;
    for (auto const& name : image.names) {
      // Full names serve containerd and podman; umoci and skopeo know the second as the tag.
      descriptor["annotations"] = {{"io.containerd.image.name", name},
                                   {"org.opencontainers.image.ref.name", name}};
      index["manifests"].push_back(descriptor);
    }
    if (image.names.empty()) index["manifests"].push_back(descriptor);
  }
  return dump(index);
}

std::string docker_manifest(std::vector<DockerEntry> const& images) {
  Json list = Json::array();
  for (auto const& image : images) {
    Json tags = Json::array();
    for (auto const& name : image.names) {
      if (auto tag = docker_tag(name); !tag.empty()) tags.push_back(std::move(tag));
    }
    if (tags.empty()) tags = nullptr;
    list.push_back(
        {{"Config", image.config}, {"RepoTags", std::move(tags)}, {"Layers", image.layers}});
  }
  return dump(list);
}

}  // namespace lcfs::exporter
