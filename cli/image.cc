// SPDX-License-Identifier: Apache-2.0
// lcfs image ls, show.  image_change.cc has the verbs that change images.
#include "cli/json.h"
#include "cli/units.h"
#include "cli/verb.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::string store{};
  std::string name{};
  bool json = false;
  bool config = false, manifest = false, index = false;
};
using OptionsPtr = std::shared_ptr<Options>;

struct Image {
  ImageDetails details{};
  std::vector<LayerInfo> layers{};
};

Json json_of(Image const& image) {
  std::vector<ImageLayerLine> lines;
  for (auto const& layer : image.layers) {
    ImageLayerLine line{layer.name, {}, {}, layer.diff_bytes, false};
    if (layer.has_digests) {
      line.diff_id = layer.diff_id;
      line.chain_id = layer.chain_id;
    }
    lines.push_back(std::move(line));
  }
  return image_json(image.details.names, image.details.info.config_digest, lines);
}

std::uint64_t size_of(Image const& image) {
  return image.layers.empty() ? 0 : image.layers.back().used_blocks * kBlockSize;
}

Result<Image> load(Store const& store, ImageDetails details) {
  LCFS_TRY_ASSIGN(auto layers, store.image_layers(details.info.id));
  return Image{std::move(details), std::move(layers)};
}

Status list_images(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadOnly));
  std::vector<ImageDetails> all;
  LCFS_TRY(store->for_each_image([&all](ImageDetails const& details) {
    all.push_back(details);
    return true;
  }));
  Json object;
  object["images"] = Json::array();
  Table table({"NAME", "ID", "LAYERS", "SIZE", "IMPORTED"}, "llrrl");
  for (auto& details : all) {
    LCFS_TRY_ASSIGN(auto const image, load(*store, std::move(details)));
    if (options.json) {
      object["images"].push_back(json_of(image));
      continue;
    }
    auto names = image.details.names;
    if (names.empty()) names.emplace_back("-");
    auto const& info = image.details.info;
    for (auto const& name : names)
      table.add({escape(name), digest_hex(info.config_digest).substr(0, 12),
                 std::to_string(info.layer_count), size_text(size_of(image)),
                 time_text(info.imported_ns)});
  }
  if (options.json)
    print_json(context.io.out, object);
  else
    table.print(context.io.out);
  return Ok{};
}

Status show_image(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadOnly));
  LCFS_TRY_ASSIGN(auto const id, store->resolve_image(options.name));
  for (auto const& [wanted, kind] : {std::pair{options.config, BlobKind::kConfig},
                                     std::pair{options.manifest, BlobKind::kManifest},
                                     std::pair{options.index, BlobKind::kIndex}}) {
    if (!wanted) continue;
    LCFS_TRY_ASSIGN(auto const raw, store->image_document(id, kind));
    context.io.out << raw;
    return Ok{};
  }
  LCFS_TRY_ASSIGN(auto details, store->image(id));
  LCFS_TRY_ASSIGN(auto const image, load(*store, std::move(details)));
  auto const& info = image.details.info;
  if (options.json) {
    auto object = json_of(image);
    object["manifest"] = digest_text(info.manifest_digest);
    object["imported"] = time_json_or_null(info.imported_ns);
    object["size"] = size_of(image);
    print_json(context.io.out, object);
    return Ok{};
  }
  auto& out = context.io.out;
  for (auto const& name : image.details.names) out << fmt::format("name      {}\n", escape(name));
  out << fmt::format("id        {}\nmanifest  {}\nimported  {}\nsize      {} ({} bytes)\n",
                     digest_text(info.config_digest), digest_text(info.manifest_digest),
                     time_text(info.imported_ns), size_text(size_of(image)), size_of(image));
  for (auto const& layer : image.layers)
    out << fmt::format("layer     {}  {}  {}\n", layer.name,
                       layer.has_digests ? digest_text(layer.diff_id) : "-",
                       size_text(layer.own_blocks * kBlockSize));
  return Ok{};
}

}  // namespace

void add_image(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* group = app.add_subcommand("image", "List, show, tag and remove images");
  group->require_subcommand(1);
  group->footer("Example:\n  lcfs image ls");
  auto* ls = add_verb(*group, context, options, "ls", "List all images", "ls --json", list_images);
  ls->add_flag("--json", options->json, "Print one JSON object, in the form of import");
  auto* show = add_verb(*group, context, options, "show", "Show one image, or one of its documents",
                        "show --config debian:12", show_image);
  auto* json = show->add_flag("--json", options->json, "Print one JSON object");
  auto* config =
      show->add_flag("--config", options->config, "Print the OCI config as it was imported");
  auto* manifest =
      show->add_flag("--manifest", options->manifest, "Print the manifest as it was imported");
  auto* index = show->add_flag("--index", options->index, "Print the index as it was imported");
  json->excludes(config)->excludes(manifest)->excludes(index);
  config->excludes(manifest)->excludes(index);
  manifest->excludes(index);
  show->add_option("IMAGE", options->name, "Name, id or unique prefix")->required();
  add_image_changes(*group, context);
}

}  // namespace lcfs::cli
