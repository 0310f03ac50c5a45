// SPDX-License-Identifier: Apache-2.0
// lcfs layer: the layers of a store, shown.  layer_change.cc has the verbs that change them.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/print.h"
#include "cli/store_arg.h"
#include "cli/units.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::string store{};
  std::string name{};
  bool json = false;
};
using OptionsPtr = std::shared_ptr<Options>;

char const* state_text(LayerInfo const& layer) { return layer.state == LayerState::kOpen ? "open" : "frozen"; }

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
    table.add({layer.name, state_text(layer), parent.value_or("-"), size_text(sizes.own * kBlockSize),
               size_text(sizes.inherited * kBlockSize), std::to_string(layer.inodes), time_text(layer.created_ns)});
  }
  if (!options.json) table.print(context.io.out);
  return Ok{};
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
  if (options.json) {
    print_json(context.io.out, layer_json(layer, parent));
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
  row("exclusive", blocks(sizes.exclusive));
  row("shared", blocks(sizes.shared));
  row("inherited", blocks(sizes.inherited));
  row("quota", layer.quota_blocks == 0 ? "-" : blocks(layer.quota_blocks));
  row("inodes", std::to_string(layer.inodes));
  row("created", time_text(layer.created_ns));
  row("frozen", time_text(layer.frozen_ns));
  row("diff_id", layer.has_digests ? digest_text(layer.diff_id) : "-");
  row("chain_id", layer.has_digests ? digest_text(layer.chain_id) : "-");
  row("tar", layer.diff_bytes == 0 ? "-" : fmt::format("{} bytes", layer.diff_bytes));
  return Ok{};
}

// Every layer below its parent, depth first, in the order of ids.
Status print_tree(Options const& options, Context& context) {
  constexpr std::size_t kMaxIndent = 32;  // levels; a chain of thousands must not draw a staircase
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadOnly));
  LCFS_TRY_ASSIGN(auto const layers, Layers::load(*store));
  std::unordered_map<LayerId, std::vector<std::size_t>> children;
  for (std::size_t i = layers.list.size(); i-- > 0;) children[layers.list[i].parent].push_back(i);
  struct Next {
    std::size_t index = 0, depth = 0;
  };
  std::vector<Next> next;  // the last one is printed next
  auto const push = [&](LayerId parent, std::size_t depth) {
    if (auto const found = children.find(parent); found != children.end())
      for (std::size_t const i : found->second) next.push_back({i, depth});
  };
  push(0, 0);
  while (!next.empty()) {
    auto const [index, depth] = next.back();
    next.pop_back();
    auto const& layer = layers.list[index];
    if (options.json) {
      auto object = layer_json(layer, layers.parent_name(layer));
      object["depth"] = depth;
      print_json(context.io.out, object);
    } else {
      context.io.out << fmt::format("{}{}{}  {}{}\n", std::string(2 * std::min(depth, kMaxIndent), ' '),
                                    depth > kMaxIndent ? fmt::format("[{}] ", depth) : "", layer.name,
                                    size_text(layer.own_blocks * kBlockSize),
                                    layer.state == LayerState::kOpen ? "  open" : "");
    }
    push(layer.id, depth + 1);
  }
  return Ok{};
}

CLI::App* add(CLI::App& group, Context& context, OptionsPtr const& options, char const* name, char const* help,
              char const* example, Status (*run)(Options const&, Context&)) {
  auto* cmd = group.add_subcommand(name, help);
  add_store_option(*cmd, options->store);
  cmd->footer(fmt::format("Example:\n  lcfs layer {}", example));
  cmd->callback([options, &context, name, run] {
    if (auto done = run(*options, context); !done)
      context.exit = fail(context, fmt::format("layer {}", name), done.error());
  });
  return cmd;
}

}  // namespace

void add_layer(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* group = app.add_subcommand("layer", "List, show, create, commit, freeze, rename, limit and remove layers");
  group->require_subcommand(1);
  group->footer("Example:\n  lcfs layer tree");
  auto const json = [&options](CLI::App* cmd) {
    cmd->add_flag("--json", options->json, "Print one JSON object a layer");
  };

  json(add(*group, context, options, "ls", "List all layers", "ls --json", list_layers));
  auto* show = add(*group, context, options, "show", "Show one layer", "show debian:12", show_layer);
  json(show);
  show->add_option("LAYER", options->name, "Layer, image, digest or unique prefix")->required();
  json(add(*group, context, options, "tree", "Show which layer stands on which", "tree", print_tree));
  add_layer_changes(*group, context);
}

}  // namespace lcfs::cli
