// SPDX-License-Identifier: Apache-2.0
// lcfs layer history: shows the steps that made a layer, from the history in its image's config and
// from the layers made in this store.
#include <algorithm>

#include "cli/image_lookup.h"
#include "cli/json.h"
#include "cli/units.h"
#include "cli/verb.h"
#include "oci/image_config.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::string store{}, name{};
  bool json = false, whole = false;
};

struct Step {
  oci::HistoryLine line{};
  std::optional<LayerInfo> layer{};
};

// Base layer first.  The n-th step of the config that has a layer belongs to the n-th layer.
Result<std::vector<Step>> steps_of(Store const& store, std::vector<LayerInfo> const& chain) {
  std::vector<Step> steps;
  std::size_t next = 0;
  LCFS_TRY_ASSIGN(auto const image, image_of(store, chain, true));
  if (image) {
    std::size_t const layers = std::min<std::size_t>(image->info.layer_count, chain.size());
    LCFS_TRY_ASSIGN(auto const config, store.image_document(image->info.id, BlobKind::kConfig));
    LCFS_TRY_ASSIGN(auto const history, oci::config_history(config));
    auto const recorded = static_cast<std::size_t>(std::count_if(
        history.begin(), history.end(), [](auto const& l) { return !l.empty_layer; }));
    for (; next + recorded < image->info.layer_count && next < layers; ++next)
      steps.push_back({{}, chain[next]});  // the config has no history of it
    // Else later steps belong to layers above.
    bool const whole = layers == image->info.layer_count;
    for (auto const& line : history) {
      if (next == layers && (!whole || !line.empty_layer)) break;
      Step step{line, {}};
      if (!line.empty_layer) step.layer = chain[next++];
      steps.push_back(std::move(step));
    }
  }
  for (; next < chain.size(); ++next) steps.push_back({{}, chain[next]});
  return steps;
}

std::string shortened(std::string text, bool whole) {
  constexpr std::size_t kMost = 60;
  if (whole || text.size() <= kMost) return escape(text);
  text.resize(kMost - 3);
  while (!text.empty() && !is_utf8(text)) text.pop_back();
  return escape(text) + "...";
}

Status print_history(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadOnly));
  LCFS_TRY_ASSIGN(auto const id, store->resolve_layer(options.name));
  LCFS_TRY_ASSIGN(auto const chain, chain_of(*store, id));
  LCFS_TRY_ASSIGN(auto const steps, steps_of(*store, chain));
  Table table({"LAYER", "CREATED", "SIZE", "CREATED BY"}, "llrl");
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    auto const& [line, layer] = *step;
    auto const made_ns = layer ? layer->created_ns : 0;
    if (options.json) {
      Json object;
      object["layer"] = layer ? Json(layer->name) : Json(nullptr);
      object["created"] = line.created.empty() ? time_json_or_null(made_ns) : Json(line.created);
      object["created_by"] = line.created_by.empty() ? Json(nullptr) : Json(line.created_by);
      object["comment"] = line.comment.empty() ? Json(nullptr) : Json(line.comment);
      object["own_bytes"] = layer ? layer->own_blocks * kBlockSize : 0;
      print_json(context.io.out, object);
      continue;
    }
    auto const created =
        line.created.empty() ? time_text(made_ns) : escape(line.created.substr(0, 19));
    auto const by = line.created_by.empty() ? "-" : shortened(line.created_by, options.whole);
    table.add({layer ? layer->name : "-", created,
               layer ? size_text(layer->own_blocks * kBlockSize) : "0", by});
  }
  if (!options.json) table.print(context.io.out);
  return Ok{};
}

}  // namespace

void add_layer_history(CLI::App& group, Context& context) {
  auto options = std::make_shared<Options>();
  auto* history = add_verb(group, context, options, "history",
                           "Show the steps that made a layer, last step first", "history debian:12",
                           print_history);
  history->add_flag("--json", options->json, "Print one JSON object per step");
  history->add_flag("--no-trunc", options->whole, "Do not truncate commands");
  history->add_option("LAYER", options->name, kLayerHelp)->required();
}

}  // namespace lcfs::cli
