// SPDX-License-Identifier: Apache-2.0
// lcfs layer create, commit, freeze, rename, quota, rm.
#include <fmt/format.h>

#include <unordered_map>
#include <unordered_set>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/print.h"
#include "cli/store_arg.h"
#include "cli/units.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::string store{};
  std::vector<std::string> names{};
  std::string name{}, other{}, parent{}, quota{};
  bool dry_run = false, json = false;
};
using OptionsPtr = std::shared_ptr<Options>;

// What a quota is counted in; one that ends within a block has all of it.
std::uint64_t quota_blocks(std::string const& text) {
  if (text.empty() || text == "none") return 0;
  auto const bytes = parse_size(text);
  return bytes ? *bytes / kBlockSize + (*bytes % kBlockSize != 0 ? 1 : 0) : 0;
}

std::string quota_problem(std::string const& text) {
  if (text == "none") return {};
  auto const size = parse_size(text);
  if (!size) return size.error().message;
  return *size == 0 ? "a quota of 0 would allow nothing; \"none\" takes it away" : "";
}

CLI::Validator quota_check() {
  return {[](std::string const& text) { return quota_problem(text); }, "", "quota"};
}

Status create_layer(Options const& options, Context& context) {
  LCFS_TRY(Store::check_layer_name(options.name));
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadWrite));
  LayerId parent = 0;
  if (!options.parent.empty()) {
    LCFS_TRY_ASSIGN(parent, store->resolve_layer(options.parent));
  }
  LCFS_TRY(store->create_layer(options.name, parent, {quota_blocks(options.quota)}));
  return store.close();
}

Status commit_layer(Options const& options, Context& context) {
  LCFS_TRY(Store::check_layer_name(options.other));
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadWrite));
  LCFS_TRY_ASSIGN(auto const id, store->resolve_layer(options.name));
  LCFS_TRY(store->commit_layer(id, options.other));
  return store.close();
}

Status rename_layer(Options const& options, Context& context) {
  LCFS_TRY(Store::check_layer_name(options.other));
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadWrite));
  LCFS_TRY_ASSIGN(auto const id, store->resolve_layer(options.name));
  LCFS_TRY(store->rename_layer(id, options.other));
  return store.close();
}

Status set_quota(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadWrite));
  LCFS_TRY_ASSIGN(auto const id, store->resolve_layer(options.name));
  LCFS_TRY(store->set_quota(id, quota_blocks(options.quota)));
  return store.close();
}

// Each name on its own: one that fails does not keep the others from it.
template <class Change>
void for_each_name(Options const& options, Context& context, Store& store, char const* what, Change const& change) {
  for (auto const& name : options.names) {
    auto const id = store.resolve_layer(name);
    auto done = id ? change(*id) : Status{id.error()};
    if (done) continue;
    if (done.error().path.empty()) done.error().path = name;
    context.exit = fail(context, what, done.error());
  }
}

Status freeze_layers(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadWrite));
  for_each_name(options, context, *store, "layer freeze", [&store](LayerId id) { return store->freeze_layer(id); });
  return store.close();
}

// What removing layers one after the other would do.
class Removals {
 public:
  Status remove(Store const& store, LayerId id) {
    LCFS_TRY_ASSIGN(auto layer, store.layer_info(id));
    LCFS_TRY_ASSIGN(auto const space, store.layer_space(id));
    layer.own_blocks = space.own;  // what isn't written yet included
    if (gone_.contains(id)) return Error{Errc::kNotFound, "would be removed already", 0, {}, kNoOffset};
    auto const children = layer.children - gone_children_[id];
    if (children != 0) return Error{Errc::kBusy, fmt::format("{} layers stand on it", children), 0, {}, kNoOffset};
    if (layer.images != 0)
      return Error{Errc::kBusy, fmt::format("it is the top of {} images", layer.images), 0, {}, kNoOffset};
    gone_.insert(id);
    ++gone_children_[layer.parent];
    removed.push_back(std::move(layer));
    return Ok{};
  }
  std::vector<LayerInfo> removed;

 private:
  std::unordered_set<LayerId> gone_;
  std::unordered_map<LayerId, std::uint64_t> gone_children_;  // by parent
};

Status plan_removal(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadOnly));
  Removals removals;
  for_each_name(options, context, *store, "layer rm", [&](LayerId id) { return removals.remove(*store, id); });
  std::uint64_t blocks = 0;
  Table table({"LAYER", "FREES"}, "lr");
  for (auto const& layer : removals.removed) {
    blocks += layer.own_blocks;
    table.add({layer.name, size_text(layer.own_blocks * kBlockSize)});
    if (options.json)
      print_json(context.io.out, {{"layer", layer.name}, {"freed_bytes", layer.own_blocks * kBlockSize}});
  }
  if (options.json) return Ok{};
  table.print(context.io.out);
  context.io.out << fmt::format("{} ({} bytes) in all; nothing was removed\n", size_text(blocks * kBlockSize),
                                blocks * kBlockSize);
  return Ok{};
}

Status remove_layers(Options const& options, Context& context) {
  if (options.dry_run) return plan_removal(options, context);
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadWrite));
  for_each_name(options, context, *store, "layer rm", [&store](LayerId id) { return store->remove_layer(id); });
  return store.close();
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

void add_layer_changes(CLI::App& group, Context& context) {
  auto options = std::make_shared<Options>();
  auto* create = add(group, context, options, "create", "Create a writable layer, empty or a clone",
                     "create work --parent debian:12", create_layer);
  create->add_option("--parent", options->parent, "Layer or image to clone; an open layer is frozen by it")
      ->type_name("LAYER");
  create->add_option("--quota", options->quota, "The most it may own")->type_name("SIZE")->check(quota_check());
  create->add_option("NAME", options->name, "Name of the new layer")->required();

  auto* commit = add(group, context, options, "commit", "Freeze what is in a layer now, which itself goes on",
                     "commit work --as work-monday", commit_layer);
  commit->add_option("--as", options->other, "Name of the new, frozen layer")->type_name("FROZEN")->required();
  commit->add_option("NAME", options->name, "The layer that goes on")->required();

  auto* freeze =
      add(group, context, options, "freeze", "Make layers immutable, for ever", "freeze work", freeze_layers);
  freeze->add_option("LAYER", options->names, "Layers")->required();

  auto* rename = add(group, context, options, "rename", "Give a layer another name", "rename work tried", rename_layer);
  rename->add_option("OLD", options->name, "Layer, image, digest or unique prefix")->required();
  rename->add_option("NEW", options->other, "Its name from now on")->required();

  auto* quota =
      add(group, context, options, "quota", "Limit what a writable layer may own", "quota work 2G", set_quota);
  quota->add_option("NAME", options->name, "Layer")->required();
  quota->add_option("SIZE", options->quota, "The most it may own, or \"none\"")->required()->check(quota_check());

  auto* rm = add(group, context, options, "rm", "Remove layers that nothing stands on", "rm work", remove_layers);
  rm->add_flag("-n,--dry-run", options->dry_run, "Remove nothing; tell what would be freed");
  rm->add_flag("--json", options->json, "With --dry-run, print one JSON object a layer")->needs("--dry-run");
  rm->add_option("LAYER", options->names, "Layers")->required();
}

}  // namespace lcfs::cli
