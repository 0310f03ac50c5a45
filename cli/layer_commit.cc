// SPDX-License-Identifier: Apache-2.0
// lcfs layer commit: snapshots a writable layer, and makes an image of the snapshot.
#include <ostream>

#include "cli/changeset_sink.h"
#include "cli/checks.h"
#include "cli/image_lookup.h"
#include "cli/signals.h"
#include "cli/units.h"
#include "cli/verb.h"
#include "engine/import.h"
#include "exporter/changeset_tar.h"
#include "oci/image_config.h"
#include "oci/image_name.h"
#include "oci/sha256.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::string store{}, name{}, frozen{}, image{}, comment{};
  std::vector<std::string> changes{};
};

// Counts and hashes the bytes written to it.
class HashBuffer final : public std::streambuf {
 public:
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] Digest finish() { return hash_.finish(); }

 private:
  std::streamsize xsputn(char const* text, std::streamsize n) override {
    hash_.update(std::as_bytes(std::span{text, static_cast<std::size_t>(n)}));
    bytes_ += static_cast<std::uint64_t>(n);
    return n;
  }
  int_type overflow(int_type c) override {
    char const one = traits_type::to_char_type(c);
    return xsputn(&one, 1) == 1 ? c : traits_type::eof();
  }
  oci::Sha256 hash_{};
  std::uint64_t bytes_ = 0;
};

// The digests of the tar that `lcfs diff --oci` would write for the layer and its parent.  Times
// are not clamped, so the result does not depend on the environment.
Status digest_of(Store& store, LayerInfo const& layer, Digest const* chain_below,
                 Context const& context, std::atomic<bool> const& stop, LayerDigests& digests) {
  LCFS_TRY_ASSIGN(auto const diff, LayerDiff::open(store, layer.parent, layer.id));
  LCFS_TRY_ASSIGN(auto const entries, diff->run({}));
  LCFS_TRY_ASSIGN(auto const items, changeset_of(*diff, entries));
  HashBuffer buffer;
  std::ostream out(&buffer);
  ChangesetSink sink(diff->b(), out, stop);
  LCFS_TRY(
      exporter::ChangesetTar(diff->b(), sink, std::nullopt, [&context](std::string const& path) {
        warn(context, "layer commit",
             fmt::format("{}: left out: an image cannot hold sockets", escape(path)));
      }).write(items));
  digests.layer = layer.id;
  digests.diff_bytes = buffer.bytes();
  digests.diff_id = buffer.finish();
  digests.chain_id = oci::chain_id(chain_below, digests.diff_id);
  return Ok{};
}

// Makes the image of a frozen layer, and the digests that its layers lack.
Result<CommittedImage> describe_image(Store& store, Options const& options, LayerId top,
                                      bool named_here, Context const& context) {
  StopOnSignal const signals(context.io);
  oci::ImagePlan plan;
  for (auto const& change : options.changes) {
    LCFS_TRY_ASSIGN(auto parsed, oci::parse_config_change(change));
    plan.changes.push_back(std::move(parsed));
  }
  LCFS_TRY_ASSIGN(auto const chain, chain_of(store, top));
  LCFS_TRY_ASSIGN(auto const below, image_of(store, chain, false));
  std::size_t known = 0;  // number of layers that the history already covers
  if (below) {
    LCFS_TRY_ASSIGN(plan.parent, store.image_document(below->info.id, BlobKind::kConfig));
    known = below->info.layer_count;
  }
  CommittedImage out;
  Digest chain_id{};
  for (std::size_t i = 0; i < chain.size(); ++i) {
    LayerDigests digests{chain[i].id, chain[i].diff_id, chain[i].chain_id, chain[i].diff_bytes,
                         false};
    if (!chain[i].has_digests) {
      LCFS_TRY(digest_of(store, chain[i], i == 0 ? nullptr : &chain_id, context, signals.stop(),
                         digests));
      digests.name_by_chain = named_here && i + 1 == chain.size();
      out.digests.push_back(digests);
    }
    chain_id = digests.chain_id;
    plan.layers.push_back({digests.diff_id, digests.diff_bytes, i >= known});
  }
  plan.created = time_json(now_ns());
  plan.created_by = fmt::format("lcfs layer commit {}", options.name);
  plan.comment = options.comment;
  LCFS_TRY_ASSIGN(auto made, oci::make_image_documents(plan));
  auto& image = out.image;
  image.config_digest = made.config_digest;
  image.manifest_digest = made.manifest_digest;
  image.config = std::move(made.config);
  image.manifest = std::move(made.manifest);
  LCFS_TRY_ASSIGN(auto const name, oci::full_image_name(options.image));
  image.names.push_back(name);
  image.top_layer = top;
  image.layer_count = static_cast<std::uint32_t>(chain.size());
  return out;
}

// An unused name for the snapshot until its digest is known.
Result<std::string> free_name(Store const& store, std::string const& of) {
  for (int n = 1;; ++n) {
    auto const tail = fmt::format("-{}", n);
    auto name = of.substr(0, kMaxLayerName - tail.size()) + tail;
    auto const taken = store.resolve(name);
    if (!taken && taken.error().code == Errc::kNotFound) return name;
    if (!taken && taken.error().code != Errc::kInvalid) return taken.error();
  }
}

Status commit_layer(Options const& options, Context& context) {
  bool const image = !options.image.empty();
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadWrite));
  LCFS_TRY_ASSIGN(auto const id, store->resolve_layer(options.name));
  LCFS_TRY_ASSIGN(auto const layer, store->layer_info(id));
  bool const only_image = image && options.frozen.empty() && layer.state == LayerState::kFrozen;
  auto frozen = options.frozen;
  if (!only_image && frozen.empty()) {
    LCFS_TRY_ASSIGN(frozen, free_name(*store, layer.name));
  }
  Digest made{};
  bool is_frozen = false;  // by this command; it stays even if the image fails
  auto const describe = [&]() -> Result<CommittedImage> {
    is_frozen = !only_image;
    auto described =
        describe_image(*store, options, id, is_frozen && options.frozen.empty(), context);
    if (described) made = described->image.config_digest;
    return described;
  };
  auto const commit = [&]() -> Status {
    if (only_image) {
      LCFS_TRY_ASSIGN(auto const described, describe());
      return store->make_image(described.image, described.digests);
    }
    LCFS_TRY(image ? store->commit_layer(id, frozen, describe)
                   : store->commit_layer(id, frozen));  // the snapshot keeps the id
    return Ok{};
  };
  if (auto done = commit(); !done) {
    auto error = done.error();
    if (is_frozen) error.message += fmt::format("; the snapshot {} was made, but no image", frozen);
    return error;
  }
  if (image) context.io.out << digest_text(made) << '\n';
  return store.close();
}

}  // namespace

void add_layer_commit(CLI::App& group, Context& context) {
  auto options = std::make_shared<Options>();
  auto* commit = add_verb(group, context, options, "commit", "Snapshot a writable layer",
                          "commit work --as work-monday", commit_layer);
  auto* as = commit->add_option("--as", options->frozen, "Name of the snapshot, a frozen layer")
                 ->type_name("FROZEN")
                 ->check(layer_name_check());
  auto* image =
      commit
          ->add_option("--image", options->image, "Make an image of the snapshot, and print its id")
          ->type_name("REPO[:TAG]")
          ->check(image_name_check());
  commit
      ->add_option("--config-change", options->changes,
                   "Change the image's config: CMD, ENTRYPOINT, ENV, LABEL, USER, ...")
      ->type_name("KEY=VALUE")
      ->expected(1)
      ->take_all()
      ->check(config_change_check())
      ->needs(image);
  commit->add_option("--comment", options->comment, "Comment for the image's history")
      ->type_name("TEXT")
      ->needs(image);
  commit
      ->add_option("LAYER", options->name,
                   "Layer to snapshot; it stays writable (frozen: only --image)")
      ->required();
  commit->parse_complete_callback([as, image] {
    if (as->count() == 0 && image->count() == 0)
      throw CLI::RequiredError("--as FROZEN or --image REPO[:TAG]");
  });
}

}  // namespace lcfs::cli
