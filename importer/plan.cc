// SPDX-License-Identifier: Apache-2.0
#include "importer/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "format/records.h"
#include "importer/plan_oci.h"
#include "importer/platform.h"
#include "importer/quote.h"
#include "importer/sha256.h"

namespace lcfs::importer {
namespace {

constexpr std::uint64_t kMaxKeptDocuments = std::uint64_t{64}
                                            << 20;  // all raw documents of all images

// "docker.io/library/x:latest" for "x"; what has a registry or a digest stays.
std::string full_name(std::string_view name) {
  std::string out(name);
  auto const slash = out.find('/');
  std::string_view const first = std::string_view(out).substr(0, slash);
  bool const registry =
      slash != std::string::npos &&
      (first.find_first_of(".:") != std::string_view::npos || first == "localhost");
  if (!registry)
    out = fmt::format("docker.io/{}{}", slash == std::string::npos ? "library/" : "", out);
  auto const last = out.rfind('/');
  if (out.find('@') == std::string::npos && out.find(':', last) == std::string::npos)
    out += ":latest";
  return out;
}

bool names_match(std::vector<std::string> const& names, std::vector<std::string> const& wanted) {
  return std::any_of(wanted.begin(), wanted.end(), [&](std::string const& want) {
    return std::any_of(names.begin(), names.end(),
                       [&](std::string const& n) { return same_image_name(n, want); });
  });
}

void add_names(std::vector<std::string>& names, std::vector<std::string> const& more) {
  for (auto const& name : more) {
    if (name.empty() || names_match(names, {name})) continue;
    names.push_back(name);
  }
}

// The digest that a name like "<64 hex digits>.json" or "blobs/sha256/<64 hex digits>" promises.
std::optional<Digest> digest_in_name(std::string_view member) {
  auto base = member.substr(member.rfind('/') + 1);
  if (base.ends_with(".json")) base.remove_suffix(5);
  if (base.size() != 64) return std::nullopt;
  auto digest = parse_digest_text(base);
  if (!digest) return std::nullopt;
  return *digest;
}

Result<std::vector<DockerImage>> docker_images(Archive& archive,
                                               std::shared_ptr<std::string const>& raw) {
  LCFS_TRY_ASSIGN(auto text, archive.document("manifest.json"));
  auto images = parse_docker_manifest(text);
  if (!images) return in_member(std::move(images).error(), archive.name(), "manifest.json");
  raw = std::make_shared<std::string const>(std::move(text));
  return images;
}

Result<PlannedImage> build_docker(Archive& archive, DockerImage const& from) {
  PlannedImage image;
  LCFS_TRY_ASSIGN(image.config, archive.document(from.config));
  image.config_digest = sha256(image.config);
  if (auto const promised = digest_in_name(from.config);
      promised && *promised != image.config_digest) {
    return in_member({Errc::kCorrupt, fmt::format("digest is {}, its name says otherwise",
                                                  digest_text(image.config_digest))},
                     archive.name(), from.config);
  }
  auto config = parse_config(image.config);
  if (!config) return in_member(std::move(config).error(), archive.name(), from.config);
  image.platform = config->platform;
  std::vector<PlannedLayer> layers;
  layers.reserve(from.layers.size());
  for (auto const& path : from.layers) {
    bool const blob = path.starts_with("blobs/sha256/");
    layers.push_back({path, blob ? digest_in_name(path) : std::nullopt, std::nullopt, {}, {}});
  }
  if (auto ok = set_layers(image, *config, std::move(layers)); !ok) {
    return in_member(std::move(ok).error(), archive.name(), "manifest.json");
  }
  add_names(image.names, from.tags);
  return image;
}

Result<std::vector<PlannedImage>> plan_docker(Archive& archive, PlanOptions const& options) {
  std::shared_ptr<std::string const> raw;
  LCFS_TRY_ASSIGN(auto const entries, docker_images(archive, raw));
  Digest const manifest_digest = sha256(*raw);
  std::vector<PlannedImage> images;
  std::map<Digest, std::size_t> by_config;
  std::set<std::string> other_platforms;
  for (auto const& entry : entries) {
    if (!options.names.empty() && !entry.tags.empty() && !names_match(entry.tags, options.names))
      continue;
    LCFS_TRY_ASSIGN(auto image, build_docker(archive, entry));
    if (options.platform && platform_rank(*options.platform, image.platform) < 0) {
      other_platforms.insert(platform_text(image.platform));
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
    return in_member(
        {Errc::kNotFound,
         fmt::format("no image for platform {}; there {}: {}", platform_text(*options.platform),
                     other_platforms.size() == 1 ? "is" : "are", fmt::join(other_platforms, ", "))},
        archive.name(), "");
  }
  return images;
}

// Both sides are there: the tags of manifest.json go to the OCI images of the same config.
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
    if (auto ok = check_oci_layout(text); !ok)
      return in_member(std::move(ok).error(), archive.name(), "oci-layout");
  }
  if (oci && docker) return plan_both(archive, options);
  if (oci) {
    return plan_oci(archive, options, [&options](std::vector<std::string> const& names) {
      return options.names.empty() || names_match(names, options.names);
    });
  }
  if (docker) return plan_docker(archive, options);
  char const* const why = archive.size("repositories")
                              ? "it is of a docker older than 1.10, without manifest.json"
                              : "it has neither index.json nor manifest.json";
  return in_member({Errc::kInvalid, fmt::format("not a docker or OCI archive: {}", why)},
                   archive.name(), "");
}

Status check_kept(Archive const& archive, std::vector<PlannedImage> const& images) {
  std::uint64_t sum = 0;
  for (auto const& i : images)
    sum += i.config.size() + i.manifest->size() + (i.index ? i.index->size() : 0);
  if (sum <= kMaxKeptDocuments) return {};
  return in_member(
      {Errc::kUnsupported,
       fmt::format("{} images with {} bytes of documents in one archive", images.size(), sum)},
      archive.name(), "");
}

Status check_names(Archive const& archive, std::vector<PlannedImage> const& images,
                   std::vector<std::string> const& wanted, std::set<std::string> const& seen) {
  for (auto const& name : wanted) {
    bool const found = std::any_of(images.begin(), images.end(), [&](PlannedImage const& i) {
      return names_match(i.names, {name});
    });
    if (found) continue;
    std::string const has = seen.empty()
                                ? "none has a name"
                                : fmt::format("there {}: {}", seen.size() == 1 ? "is" : "are",
                                              printable(fmt::format("{}", fmt::join(seen, ", "))));
    return in_member({Errc::kNotFound, fmt::format("no image \"{}\"; {}", printable(name), has)},
                     archive.name(), "");
  }
  return {};
}

}  // namespace

bool same_image_name(std::string_view a, std::string_view b) {
  return a == b || full_name(a) == full_name(b);
}

Result<std::vector<PlannedImage>> plan_images(Archive& archive, PlanOptions const& options) {
  LCFS_TRY_ASSIGN(auto images, plan_all(archive, options));
  if (!options.names.empty()) {
    std::erase_if(images,
                  [&](PlannedImage const& i) { return !names_match(i.names, options.names); });
    if (images.empty()) {
      // Say what there is, which needs a look at all of it.
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
  if (images.empty()) return in_member({Errc::kInvalid, "holds no image"}, archive.name(), "");
  LCFS_TRY(check_kept(archive, images));
  return images;
}

}  // namespace lcfs::importer
