// SPDX-License-Identifier: Apache-2.0
#include "importer/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "format/records.h"
#include "importer/plan_oci.h"
#include "oci/image_name.h"
#include "oci/platform.h"
#include "oci/quote.h"
#include "oci/sha256.h"

namespace lcfs::importer {
namespace {

constexpr std::uint64_t kMaxKeptDocuments = std::uint64_t{64}
                                            << 20;  // all raw documents of all images

bool names_match(std::vector<std::string> const& names, std::vector<std::string> const& wanted) {
  return std::any_of(wanted.begin(), wanted.end(), [&](std::string const& want) {
    return std::any_of(names.begin(), names.end(),
                       [&](std::string const& n) { return oci::same_image_name(n, want); });
  });
}

void add_names(std::vector<std::string>& names, std::vector<std::string> const& more) {
  for (auto const& name : more) {
    if (name.empty() || names_match(names, {name})) continue;
    names.push_back(name);
  }
}

// The digest in a name like "<64 hex digits>.json" or "blobs/sha256/<64 hex digits>".
std::optional<format::Digest> digest_in_name(std::string_view member) {
  auto base = member.substr(member.rfind('/') + 1);
  if (base.ends_with(".json")) base.remove_suffix(5);
  if (base.size() != 64) return std::nullopt;
  auto digest = format::parse_digest_text(base);
  if (!digest) return std::nullopt;
  return *digest;
}

Result<std::vector<oci::DockerImage>> docker_images(Archive& archive,
                                                    std::shared_ptr<std::string const>& raw) {
  LCFS_TRY_ASSIGN(auto text, archive.document("manifest.json"));
  auto images = oci::parse_docker_manifest(text);
  if (!images) return oci::in_member(std::move(images).error(), archive.name(), "manifest.json");
  raw = std::make_shared<std::string const>(std::move(text));
  return images;
}

Result<PlannedImage> build_docker(Archive& archive, oci::DockerImage const& from) {
  PlannedImage image;
  LCFS_TRY_ASSIGN(image.config, archive.document(from.config));
  image.config_digest = oci::sha256(image.config);
  if (auto const promised = digest_in_name(from.config);
      promised && *promised != image.config_digest) {
    return oci::in_member(Error::corrupt(fmt::format("digest {} does not match its name",
                                                     format::digest_text(image.config_digest))),
                          archive.name(), from.config);
  }
  auto config = oci::parse_config(image.config);
  if (!config) return oci::in_member(std::move(config).error(), archive.name(), from.config);
  image.platform = config->platform;
  std::vector<PlannedLayer> layers;
  layers.reserve(from.layers.size());
  for (auto const& path : from.layers) {
    bool const blob = path.starts_with("blobs/sha256/");
    layers.push_back({path, blob ? digest_in_name(path) : std::nullopt, std::nullopt, {}, {}});
  }
  if (auto ok = set_layers(image, *config, std::move(layers)); !ok) {
    return oci::in_member(std::move(ok).error(), archive.name(), "manifest.json");
  }
  add_names(image.names, from.tags);
  return image;
}

Result<std::vector<PlannedImage>> plan_docker(Archive& archive, PlanOptions const& options) {
  std::shared_ptr<std::string const> raw;
  LCFS_TRY_ASSIGN(auto const entries, docker_images(archive, raw));
  format::Digest const manifest_digest = oci::sha256(*raw);
  std::vector<PlannedImage> images;
  std::map<format::Digest, std::size_t> by_config;
  std::set<std::string> other_platforms;
  for (auto const& entry : entries) {
    if (!options.names.empty() && !entry.tags.empty() && !names_match(entry.tags, options.names))
      continue;
    LCFS_TRY_ASSIGN(auto image, build_docker(archive, entry));
    if (options.platform && oci::platform_rank(*options.platform, image.platform) < 0) {
      other_platforms.insert(oci::platform_text(image.platform));
      continue;
    }
    image.manifest = raw;
    image.manifest_digest = manifest_digest;
    auto const [it, fresh] = by_config.emplace(image.config_digest, images.size());
    if (fresh) {
      images.push_back(std::move(image));
    } else {
      add_names(images[it->second].names, image.names);
    }
  }
  if (images.empty() && !other_platforms.empty()) {
    return oci::in_member(
        Error::not_found(fmt::format("no image for platform {}; the archive has: {}",
                                     oci::platform_text(*options.platform),
                                     fmt::join(other_platforms, ", "))),
        archive.name(), "");
  }
  return images;
}

// For archives with both forms: adds the tags of manifest.json to the OCI images with that config.
Result<std::vector<PlannedImage>> plan_both(Archive& archive, PlanOptions const& options) {
  std::shared_ptr<std::string const> raw;
  LCFS_TRY_ASSIGN(auto const entries, docker_images(archive, raw));
  LCFS_TRY_ASSIGN(auto images, plan_oci(archive, options, [](auto const&) { return true; }));
  for (auto const& entry : entries) {
    auto const digest = digest_in_name(entry.config);
    for (auto& image : images) {
      if (digest && image.config_digest == *digest) add_names(image.names, entry.tags);
    }
  }
  return images;
}

Result<std::vector<PlannedImage>> plan_all(Archive& archive, PlanOptions const& options) {
  bool const oci = archive.size("index.json").has_value();
  bool const docker = archive.size("manifest.json").has_value();
  if (archive.size("oci-layout")) {
    LCFS_TRY_ASSIGN(auto const text, archive.document("oci-layout"));
    if (auto ok = oci::check_oci_layout(text); !ok)
      return oci::in_member(std::move(ok).error(), archive.name(), "oci-layout");
  }
  if (oci && docker) return plan_both(archive, options);
  if (oci) {
    return plan_oci(archive, options, [&options](std::vector<std::string> const& names) {
      return options.names.empty() || names_match(names, options.names);
    });
  }
  if (docker) return plan_docker(archive, options);
  char const* const why =
      archive.size("repositories")
          ? "not an image that lcfs reads: saved by Docker before 1.10, without manifest.json"
          : "not a docker-archive, OCI archive or OCI layout (it has neither index.json nor "
            "manifest.json); to import the tar of a root file system, run lcfs layer create and "
            "lcfs layer apply";
  return oci::in_member(Error::invalid(why), archive.name(), "");
}

Status check_kept(Archive const& archive, std::vector<PlannedImage> const& images) {
  std::uint64_t sum = 0;
  for (auto const& i : images)
    sum += i.config.size() + i.manifest->size() + (i.index ? i.index->size() : 0);
  if (sum <= kMaxKeptDocuments) return {};
  return oci::in_member(
      Error::unsupported(
          fmt::format("{} images with {} bytes of documents in one archive", images.size(), sum)),
      archive.name(), "");
}

Status check_names(Archive const& archive, std::vector<PlannedImage> const& images,
                   std::vector<std::string> const& wanted, std::set<std::string> const& seen) {
  for (auto const& name : wanted) {
    bool const found = std::any_of(images.begin(), images.end(), [&](PlannedImage const& i) {
      return names_match(i.names, {name});
    });
    if (found) continue;
    std::string const has =
        seen.empty() ? "its images have no names"
                     : fmt::format("the archive has: {}",
                                   oci::printable(fmt::format("{}", fmt::join(seen, ", "))));
    return oci::in_member(
        Error::not_found(fmt::format("no image \"{}\"; {}", oci::printable(name), has)),
        archive.name(), "");
  }
  return {};
}

}  // namespace

Result<std::vector<PlannedImage>> plan_images(Archive& archive, PlanOptions const& options) {
  LCFS_TRY_ASSIGN(auto images, plan_all(archive, options));
  if (!options.names.empty()) {
    std::erase_if(images,
                  [&](PlannedImage const& i) { return !names_match(i.names, options.names); });
    if (images.empty()) {
      // The message lists all names, so read all images.
      std::set<std::string> seen;
      if (auto all = plan_all(archive, {{}, options.platform})) {
        for (auto const& i : *all) seen.insert(i.names.begin(), i.names.end());
      }
      return check_names(archive, images, options.names, seen).error();
    }
    std::set<std::string> seen;
    for (auto const& i : images) seen.insert(i.names.begin(), i.names.end());
    LCFS_TRY(check_names(archive, images, options.names, seen));
  }
  if (images.empty())
    return oci::in_member(Error::invalid("contains no image"), archive.name(), "");
  LCFS_TRY(check_kept(archive, images));
  return images;
}

}  // namespace lcfs::importer
