// SPDX-License-Identifier: Apache-2.0
#include "importer/plan_oci.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "format/records.h"
#include "oci/platform.h"
#include "oci/quote.h"
#include "oci/sha256.h"

namespace lcfs::importer {
namespace {

constexpr int kMaxIndexDepth = 8;

// A manifest that may be selected.
struct Candidate {
  oci::Descriptor descriptor{};
  std::shared_ptr<std::string const> index{};  // the document that names it
};

class OciPlanner {
 public:
  OciPlanner(Archive& archive, PlanOptions const& options) : archive_(archive), options_(options) {}

  Result<std::vector<PlannedImage>> plan(
      std::function<bool(std::vector<std::string> const&)> const& wanted) {
    LCFS_TRY_ASSIGN(auto text, archive_.document("index.json"));
    auto const index = std::make_shared<std::string const>(std::move(text));
    auto roots = oci::parse_index(*index);
    if (!roots) return oci::in_member(std::move(roots).error(), archive_.name(), "index.json");
    for (auto const& group : groups(*roots)) {
      if (!group.names.empty() && !wanted(group.names)) continue;
      LCFS_TRY(plan_group(group, index));
    }
    if (images_.empty() && refusal_) return *refusal_;
    return std::move(images_);
  }

 private:
  // Roots that are one image for several platforms: the same name (or none), each with a platform.
  struct Group {
    std::vector<std::string> names{};
    std::vector<oci::Descriptor> members{};
  };

  static std::vector<Group> groups(std::vector<oci::Descriptor> const& roots) {
    std::vector<Group> groups;
    for (auto const& root : roots) {
      if (root.attestation) continue;
      auto const same = [&root](Group const& g) {
        return g.names == root.names && g.members[0].platform &&
               *g.members[0].platform != *root.platform;
      };
      auto const it =
          root.platform ? std::find_if(groups.begin(), groups.end(), same) : groups.end();
      if (it != groups.end()) {
        it->members.push_back(root);
      } else {
        groups.push_back({root.names, {root}});
      }
    }
    return groups;
  }

  Status plan_group(Group const& group, std::shared_ptr<std::string const> const& index) {
    std::vector<Candidate> candidates;
    for (auto const& root : group.members) LCFS_TRY(collect(root, index, 0, candidates));
    if (candidates.empty()) return {};
    LCFS_TRY_ASSIGN(auto const chosen, choose(std::move(candidates)));
    if (!chosen) return {};
    auto image = build(*chosen);
    if (!image) {
      // An artifact beside images (a signature, for example) does not make the archive invalid.
      bool const artifact = image.error().code == Errc::kUnsupported && artifact_;
      if (!artifact) return std::move(image).error();
      if (!refusal_) refusal_ = std::move(image).error();
      return {};
    }
    image->names = group.names;
    return add(*std::move(image));
  }

  // Adds the manifest `d`, or those of the index `d`.
  Status collect(oci::Descriptor const& d, std::shared_ptr<std::string const> const& parent,
                 int depth, std::vector<Candidate>& into) {
    if (d.attestation) return {};
    std::string const member = blob_path(d.digest);
    if (++seen_ > oci::kMaxManifests)
      return oci::in_member(Error::unsupported("too many manifests"), archive_.name(),
                            "index.json");
    auto kind = oci::document_kind(d.media_type, "{}");
    if (!kind && !d.artifact)
      return oci::in_member(std::move(kind).error(), archive_.name(), member);
    std::optional<std::string> text;
    if (d.media_type.empty()) {
      LCFS_TRY_ASSIGN(text, verified_document(archive_, member, d));
      kind = oci::document_kind(d.media_type, *text);
      if (!kind) return oci::in_member(std::move(kind).error(), archive_.name(), member);
    }
    if (!kind || *kind == oci::DocumentKind::kManifest) {
      into.push_back({d, parent});
      return {};
    }
    if (depth >= kMaxIndexDepth) {
      return oci::in_member(Error::unsupported(fmt::format(
                                "indexes are nested more than {} levels deep", kMaxIndexDepth)),
                            archive_.name(), member);
    }
    if (!text) {
      LCFS_TRY_ASSIGN(text, verified_document(archive_, member, d));
    }
    auto const index = std::make_shared<std::string const>(*std::move(text));
    auto members = oci::parse_index(*index);
    if (!members) return oci::in_member(std::move(members).error(), archive_.name(), member);
    for (auto const& next : *members) LCFS_TRY(collect(next, index, depth + 1, into));
    return {};
  }

  // The platform of a candidate: from its index, else from its config.
  Result<oci::Platform> platform_of(Candidate const& c) {
    if (c.descriptor.platform) return *c.descriptor.platform;
    LCFS_TRY_ASSIGN(auto const image, build(c));
    return image.platform;
  }

  Result<std::optional<Candidate>> choose(std::vector<Candidate> candidates) {
    if (candidates.size() == 1 && !options_.platform)
      return std::optional(std::move(candidates[0]));
    // Archives may list manifests of other platforms that they do not contain.
    std::vector<Candidate> here;
    std::copy_if(candidates.begin(), candidates.end(), std::back_inserter(here),
                 [this](Candidate const& c) {
                   return archive_.size(blob_path(c.descriptor.digest)).has_value();
                 });
    if (here.empty()) here = std::move(candidates);
    if (here.size() == 1 && !options_.platform) return std::optional(std::move(here[0]));
    oci::Platform const wanted = options_.platform ? *options_.platform : oci::host_platform();
    std::optional<Candidate> best;
    int best_rank = 0;
    std::set<std::string> offered;
    for (auto const& c : here) {
      LCFS_TRY_ASSIGN(auto const platform, platform_of(c));
      offered.insert(oci::platform_text(platform));
      int const rank = oci::platform_rank(wanted, platform);
      if (rank < 0 || (best && rank >= best_rank)) continue;
      best = c;
      best_rank = rank;
    }
    if (best) return best;
    if (!refusal_) {
      auto missing = fmt::format("no image for platform {}; the archive has: {}",
                                 oci::platform_text(wanted), fmt::join(offered, ", "));
      refusal_ = oci::in_member(Error::not_found(std::move(missing)), archive_.name(), "");
    }
    return std::optional<Candidate>{};
  }

  Result<PlannedImage> build(Candidate const& c) {
    artifact_ = false;
    std::string const member = blob_path(c.descriptor.digest);
    LCFS_TRY_ASSIGN(auto text, verified_document(archive_, member, c.descriptor));
    auto manifest = oci::parse_manifest(text);
    if (!manifest) return oci::in_member(std::move(manifest).error(), archive_.name(), member);
    if (auto ok = oci::check_config_type(manifest->config.media_type); !ok) {
      artifact_ = true;
      return oci::in_member(std::move(ok).error(), archive_.name(), member);
    }
    PlannedImage image;
    image.manifest_digest = c.descriptor.digest;
    image.manifest = std::make_shared<std::string const>(std::move(text));
    image.index = c.index;
    std::string const config_member = blob_path(manifest->config.digest);
    LCFS_TRY_ASSIGN(image.config, verified_document(archive_, config_member, manifest->config));
    image.config_digest = manifest->config.digest;
    auto config = oci::parse_config(image.config);
    if (!config) return oci::in_member(std::move(config).error(), archive_.name(), config_member);
    image.platform = config->platform;
    std::vector<PlannedLayer> layers;
    layers.reserve(manifest->layers.size());
    for (auto const& layer : manifest->layers) {
      std::string path = blob_path(layer.digest);
      if (auto ok = oci::check_layer_type(layer.media_type); !ok)
        return oci::in_member(std::move(ok).error(), archive_.name(), path);
      layers.push_back({std::move(path), layer.digest, layer.size, {}, {}});
    }
    if (auto ok = set_layers(image, *config, std::move(layers)); !ok) {
      return oci::in_member(std::move(ok).error(), archive_.name(), member);
    }
    return image;
  }

  // The same image under another name is one image.
  Status add(PlannedImage image) {
    auto const same = [&image](PlannedImage const& other) {
      return other.config_digest == image.config_digest &&
             other.manifest_digest == image.manifest_digest;
    };
    auto const it = std::find_if(images_.begin(), images_.end(), same);
    if (it == images_.end()) {
      images_.push_back(std::move(image));
      return {};
    }
    for (auto& name : image.names) {
      if (std::find(it->names.begin(), it->names.end(), name) == it->names.end())
        it->names.push_back(std::move(name));
    }
    return {};
  }

  Archive& archive_;
  PlanOptions const& options_;
  std::vector<PlannedImage> images_{};
  std::optional<Error> refusal_{};  // the error if no image remains
  std::size_t seen_ = 0;
  bool artifact_ = false;  // build() failed because of an artifact
};

}  // namespace

std::string blob_path(format::Digest const& digest) {
  return "blobs/sha256/" + format::digest_hex(digest);
}

Result<std::string> verified_document(Archive& archive, std::string_view member,
                                      oci::Descriptor const& descriptor) {
  LCFS_TRY_ASSIGN(auto text, archive.document(member));
  if (text.size() != descriptor.size) {
    return oci::in_member(Error::corrupt(fmt::format("has {} bytes, but its descriptor says {}",
                                                     text.size(), descriptor.size)),
                          archive.name(), member);
  }
  if (auto const digest = oci::sha256(text); digest != descriptor.digest) {
    return oci::in_member(Error::corrupt(fmt::format(
                              "is corrupt: digest {}, but its descriptor says {}",
                              format::digest_text(digest), format::digest_text(descriptor.digest))),
                          archive.name(), member);
  }
  return text;
}

Status set_layers(PlannedImage& image, oci::ImageConfig const& config,
                  std::vector<PlannedLayer> layers) {
  if (layers.size() != config.diff_ids.size()) {
    return Error::corrupt(fmt::format("lists {} layers, but its config {} has {} diff_ids",
                                      layers.size(), format::digest_text(image.config_digest),
                                      config.diff_ids.size()));
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    layers[i].diff_id = config.diff_ids[i];
    layers[i].chain_id =
        oci::chain_id(i == 0 ? nullptr : &layers[i - 1].chain_id, layers[i].diff_id);
  }
  image.layers = std::move(layers);
  return {};
}

Result<std::vector<PlannedImage>> plan_oci(
    Archive& archive, PlanOptions const& options,
    std::function<bool(std::vector<std::string> const&)> const& wanted) {
  return OciPlanner(archive, options).plan(wanted);
}

}  // namespace lcfs::importer
