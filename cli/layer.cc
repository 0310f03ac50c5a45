// SPDX-License-Identifier: Apache-2.0
// lcfs layer ls, show.  The other verbs are in layer_*.cc.
#include <fmt/format.h>

#include <unordered_map>

#include "cli/json.h"
#include "cli/signals.h"
#include "cli/units.h"
#include "cli/verb.h"
#include "verify/tree_digest.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::string store{};
  std::string name{};
  bool json = false, digest = false;
};
using OptionsPtr = std::shared_ptr<Options>;

char const* state_text(LayerInfo const& layer) {
  return layer.state == LayerState::kOpen ? "writable" : "frozen";
}

// All layers, and the names of their parents.
class Layers {
 public:
  static Result<Layers> load(Store const& store) {
    Layers all;
    LCFS_TRY(store.for_each_layer([&all](LayerInfo const& layer) {
      all.index_.emplace(layer.id, all.list.size());
      all.list.push_back(layer);
      return true;
    }));
    return all;
  }
  [[nodiscard]] std::optional<std::string> parent_name(LayerInfo const& layer) const {
    auto const found = index_.find(layer.parent);
    if (found == index_.end()) return std::nullopt;
    return list[found->second].name;
  }
  std::vector<LayerInfo> list;

 private:
  std::unordered_map<LayerId, std::size_t> index_;
};

Status list_layers(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadOnly));
  LCFS_TRY_ASSIGN(auto const layers, Layers::load(*store));
  Table table({"NAME", "STATE", "PARENT", "OWN", "INHERITED", "INODES", "CREATED"}, "lllrrrl");
  for (auto const& layer : layers.list) {
    auto const parent = layers.parent_name(layer);
    if (options.json) {
      print_json(context.io.out, layer_json(layer, parent));
      continue;
    }
    auto const sizes = sizes_of(layer);
    table.add({layer.name, state_text(layer), parent.value_or("-"),
               size_text(sizes.own * kBlockSize), size_text(sizes.inherited * kBlockSize),
               std::to_string(layer.inodes), time_text(layer.created_ns)});
  }
  if (!options.json) table.print(context.io.out);
  return Ok{};
}

// The digest of the layer's tree: the recorded one, or with `compute` a computed one.
Result<std::optional<Digest>> digest_of(Store& store, LayerId id, bool compute,
                                        Context const& context) {
  if (!compute) return store.tree_digest(id);
  StopOnSignal const stop(context.io);
  LCFS_TRY_ASSIGN(auto const digest, verify::tree_digest(store, id, {2, &stop.stop(), {}}));
  return std::optional<Digest>(digest);
}

Status show_layer(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadOnly));
  LCFS_TRY_ASSIGN(auto const id, store->resolve_layer(options.name));
  LCFS_TRY_ASSIGN(auto const layer, store->layer_info(id));
  std::optional<std::string> parent;
  if (layer.parent != 0) {
    LCFS_TRY_ASSIGN(auto const info, store->layer_info(layer.parent));
    parent = info.name;
  }
  LCFS_TRY_ASSIGN(auto const digest, digest_of(*store, id, options.digest, context));
  if (options.json) {
    auto object = layer_json(layer, parent);
    object["digest"] = digest_or_null(digest.has_value(), digest.value_or(Digest{}));
    print_json(context.io.out, object);
    return Ok{};
  }
  auto const sizes = sizes_of(layer);
  auto const row = [&context](char const* key, std::string const& value) {
    context.io.out << fmt::format("{:<10}{}\n", key, value);
  };
  auto const blocks = [](std::uint64_t n) {
    return fmt::format("{} ({} bytes)", size_text(n * kBlockSize), n * kBlockSize);
  };
  row("name", layer.name);
  row("state", state_text(layer));
  row("parent", parent.value_or("-"));
  row("children", std::to_string(layer.children));
  row("images", std::to_string(layer.images));
  row("unique", blocks(sizes.exclusive));
  row("shared", blocks(sizes.shared));
  row("inherited", blocks(sizes.inherited));
  row("quota", layer.quota_blocks == 0 ? "-" : blocks(layer.quota_blocks));
  row("inodes", std::to_string(layer.inodes));
  row("created", time_text(layer.created_ns));
  row("frozen", time_text(layer.frozen_ns));
  row("diff_id", layer.has_digests ? digest_text(layer.diff_id) : "-");
  row("chain_id", layer.has_digests ? digest_text(layer.chain_id) : "-");
  row("digest", digest ? digest_text(*digest) : "-");
  row("tar", layer.diff_bytes == 0 ? "-" : fmt::format("{} bytes", layer.diff_bytes));
  return Ok{};
}

}  // namespace

void add_layer(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* group = app.add_subcommand("layer", "List, show, create, commit, change and remove layers");
  group->require_subcommand(1);
  group->footer("Example:\n  lcfs layer tree");
  auto const json = [&options](CLI::App* cmd) {
    cmd->add_flag("--json", options->json, "Print one JSON object per layer");
  };

  json(add_verb(*group, context, options, "ls", "List all layers", "ls --json", list_layers));
  auto* show =
      add_verb(*group, context, options, "show", "Show one layer", "show debian:12", show_layer);
  json(show);
  show->add_flag("--digest", options->digest,
                 "Compute the digest of its tree if none is recorded (reads all data)");
  show->add_option("LAYER", options->name, kLayerHelp)->required();
  add_layer_tree(*group, context);
  add_layer_history(*group, context);
  add_layer_changes(*group, context);
  add_layer_commit(*group, context);
  add_layer_squash(*group, context);
  add_layer_rm(*group, context);
}

}  // namespace lcfs::cli
