// SPDX-License-Identifier: Apache-2.0
#include "exporter/export.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <thread>
#include <utility>

#include "exporter/archive_writer.h"
#include "exporter/blob.h"
#include "exporter/documents.h"
#include "exporter/layer_tar.h"
#include "oci/image_name.h"
#include "oci/platform.h"
#include "oci/sha256.h"

namespace lcfs::exporter {
namespace {

// What to write for one given name.
struct Wanted {
  std::vector<std::string> names{};
  std::vector<LayerInfo> layers{};      // base first
  std::optional<std::string> config{};  // as imported
  std::string manifest{};               // likewise; may be empty
};

std::string blob_member(Digest const& digest) { return "blobs/sha256/" + digest_hex(digest); }
std::string layer_member(Digest const& diff_id) { return digest_hex(diff_id) + ".tar"; }

class Exporter {
 public:
  Exporter(Store& store, ExportOptions const& options) : store_(store), options_(options) {
    threads_ =
        options.threads != 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency());
  }

  Result<ExportReport> run() {
    auto const start = std::chrono::steady_clock::now();
    std::vector<Wanted> wanted;
    for (auto const& name : options_.names) {
      LCFS_TRY_ASSIGN(auto one, find(name));
      for (auto const& layer : one.layers) total_ += layer.diff_bytes;
      wanted.push_back(std::move(one));
    }
    LCFS_TRY(open_archive());
    ExportReport report;
    for (auto const& one : wanted) {
      LCFS_TRY_ASSIGN(auto done, write_image(one));
      report.images.push_back(std::move(done));
    }
    if (options_.format == Format::kOci) {
      LCFS_TRY(archive_->add("index.json", new_index(index_)));
      LCFS_TRY(archive_->add("oci-layout", kOciLayout));
    } else {
      LCFS_TRY(archive_->add("manifest.json", docker_manifest(docker_)));
    }
    LCFS_TRY(archive_->finish());
    report.bytes = archive_->bytes();
    report.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return report;
  }

 private:
  Result<Wanted> find(std::string const& name) {
    LCFS_TRY_ASSIGN(auto const target, store_.resolve(name));
    Wanted wanted;
    if (target.image == 0) {
      for (LayerId at = target.layer; at != 0;) {
        LCFS_TRY_ASSIGN(auto info, store_.layer_info(at));
        at = info.parent;
        wanted.layers.push_back(std::move(info));
      }
      std::reverse(wanted.layers.begin(), wanted.layers.end());
      wanted.names.push_back(wanted.layers.back().name);
      return wanted;
    }
    LCFS_TRY_ASSIGN(auto details, store_.image(target.image));
    // If selected by name, the image gets that name only; if by digest, all its names.
    auto const& all = details.names;
    auto const it = std::find_if(all.begin(), all.end(), [&](auto const& n) {
      return n == name || oci::same_image_name(n, name);
    });
    if (it != all.end()) {
      wanted.names.push_back(*it);
    } else {
      wanted.names = all;
    }
    LCFS_TRY_ASSIGN(wanted.layers, store_.image_layers(target.image));
    LCFS_TRY_ASSIGN(wanted.config, store_.image_document(target.image, BlobKind::kConfig));
    if (details.info.manifest_size != 0) {
      LCFS_TRY_ASSIGN(wanted.manifest, store_.image_document(target.image, BlobKind::kManifest));
    }
    return wanted;
  }

  Status open_archive() {
    std::int64_t const mtime = options_.latest.value_or(0);
    if (options_.stream != nullptr) {
      archive_ = make_tar_stream(*options_.stream, options_.spool, mtime);
      return {};
    }
    std::error_code ignored;
    bool const directory =
        options_.path.ends_with('/') || std::filesystem::is_directory(options_.path, ignored);
    if (directory && options_.format == Format::kDocker)
      return Error::invalid("a docker-archive cannot be a directory; use --format oci")
          .in(options_.path);
    LCFS_TRY_ASSIGN(
        archive_, directory ? make_directory(options_.path) : make_tar_file(options_.path, mtime));
    return {};
  }

  Result<ExportedImage> write_image(Wanted const& wanted) {
    ExportedImage image;
    image.names = wanted.names;
    std::vector<MadeBlob> blobs;
    std::vector<Digest> diff_ids;
    bool as_they_were = true;
    for (auto const& info : wanted.layers) {
      LCFS_TRY_ASSIGN(auto const made, layer(info));
      as_they_were = as_they_were && made.blob.diff_id == info.diff_id;
      blobs.push_back(made.blob);
      diff_ids.push_back(made.blob.diff_id);
      image.layers.push_back({info.name, made.blob.diff_id, made.blob.digest, made.blob.plain_bytes,
                              made.blob.size, made.identical});
    }
    LCFS_TRY_ASSIGN(auto const config, config_of(wanted, diff_ids, as_they_were));
    image.config_digest = oci::sha256(config);
    if (options_.format == Format::kDocker) {
      DockerEntry entry{digest_hex(image.config_digest) + ".json", wanted.names, {}};
      for (auto const& id : diff_ids) entry.layers.push_back(layer_member(id));
      LCFS_TRY(archive_->add(entry.config, config));
      docker_.push_back(std::move(entry));
      return image;
    }
    bool const same = is_manifest_of(wanted.manifest, image.config_digest, blobs);
    std::string const manifest =
        same ? wanted.manifest : new_manifest(config, blobs, wanted.manifest);
    image.manifest_digest = oci::sha256(manifest);
    if (same) {
      for (auto& l : image.layers) l.identical = Identical::kManifest;
    }
    LCFS_TRY(archive_->add(blob_member(image.config_digest), config));
    LCFS_TRY(archive_->add(blob_member(image.manifest_digest), manifest));
    auto const parsed = oci::parse_config(config);
    index_.push_back({manifest, parsed ? parsed->platform : oci::host_platform(), wanted.names});
    return image;
  }

  Result<std::string> config_of(Wanted const& wanted, std::vector<Digest> const& diff_ids,
                                bool as_they_were) {
    if (!wanted.config) return new_config(oci::host_platform(), diff_ids, options_.latest);
    return as_they_were ? *wanted.config : with_diff_ids(*wanted.config, diff_ids);
  }

  struct Made {
    MadeBlob blob{};
    Identical identical = Identical::kContent;
  };

  Result<Made> layer(LayerInfo const& info) {
    if (auto const it = made_.find(info.id); it != made_.end()) return it->second;
    if (options_.stop != nullptr && options_.stop->load()) return Error::interrupted();
    LCFS_TRY_ASSIGN(auto const tar, LayerTar::open(store_, info, latest_for(info),
                                                   [this, &info](std::string const& path) {
                                                     if (options_.skipped)
                                                       options_.skipped(info.name, path);
                                                   }));
    BlobPlan plan;
    plan.write_tar = [&tar](TarSink& out) { return tar->write(out); };
    plan.read_bodies = [&tar](std::span<Layer::ReadRequest const> requests) {
      return tar->read_bodies(requests);
    };
    plan.concurrent_reads = tar->concurrent_reads();
    plan.encoding.kind = encoding_for(tar->original());
    if (options_.compress == Compress::kOriginal && tar->original() != nullptr)
      plan.original = *tar->original();
    plan.plain_bytes = info.diff_bytes;
    plan.threads = threads_;
    plan.stop = options_.stop;
    plan.on_plain = [this, &info](std::uint64_t bytes) {
      auto const done = done_.fetch_add(bytes) + bytes;
      if (options_.progress) options_.progress(done, std::max(total_, done), info.name);
    };
    Made made;
    std::optional<ArchiveWriter::Known> known;
    if (tar->original() != nullptr && plan.encoding.kind == Encoding::kPlain)
      known = {member_of(info.diff_id, info.diff_id), info.diff_bytes};
    auto const write = [&](ByteSink& out) -> Result<std::string> {
      LCFS_TRY_ASSIGN(made.blob, make_blob(plan, out));
      if (tar->original() != nullptr && made.blob.diff_id != info.diff_id)
        return Error::corrupt(
            fmt::format("layer '{}': its tar has digest {}, but its diff_id is {}", info.name,
                        digest_text(made.blob.diff_id), digest_text(info.diff_id)));
      return member_of(made.blob.digest, made.blob.diff_id);
    };
    LCFS_TRY(archive_->add(write, known));
    if (tar->original() != nullptr)
      made.identical =
          made.blob.digest == tar->original()->digest ? Identical::kBlob : Identical::kDiffId;
    else if (info.has_digests && made.blob.diff_id == info.diff_id)
      made.identical = Identical::kDiffId;
    made_.emplace(info.id, made);
    return made;
  }

  [[nodiscard]] std::string member_of(Digest const& digest, Digest const& diff_id) const {
    return options_.format == Format::kOci ? blob_member(digest) : layer_member(diff_id);
  }

  // A layer that has digests but was not imported got them from a tar with unchanged times.
  [[nodiscard]] std::optional<std::int64_t> latest_for(LayerInfo const& info) const {
    return info.has_digests ? std::optional<std::int64_t>() : options_.latest;
  }

  [[nodiscard]] Encoding::Kind encoding_for(BlobInfo const* original) const {
    switch (options_.compress) {
      case Compress::kNone: return Encoding::kPlain;
      case Compress::kGzip: return Encoding::kGzip;
      case Compress::kZstd: return Encoding::kZstd;
      case Compress::kOriginal: break;
    }
    if (original == nullptr)
      return options_.format == Format::kOci ? Encoding::kGzip : Encoding::kPlain;
    switch (original->compression) {
      case BlobCompression::kNone: return Encoding::kPlain;
      case BlobCompression::kGzip: return Encoding::kGzip;
      case BlobCompression::kZstd: break;
    }
    return Encoding::kZstd;
  }

  Store& store_;
  ExportOptions const& options_;
  unsigned threads_ = 1;
  std::unique_ptr<ArchiveWriter> archive_{};
  std::map<LayerId, Made> made_{};
  std::vector<IndexEntry> index_{};
  std::vector<DockerEntry> docker_{};
  std::uint64_t total_ = 0;
  std::atomic<std::uint64_t> done_{0};
};

}  // namespace

char const* identical_text(Identical identical) {
  switch (identical) {
    case Identical::kManifest: return "manifest";
    case Identical::kBlob: return "blob";
    case Identical::kDiffId: return "diff_id";
    case Identical::kContent: break;
  }
  return "content";
}

Result<ExportReport> export_archive(Store& store, ExportOptions const& options) {
  return Exporter(store, options).run();
}

}  // namespace lcfs::exporter
