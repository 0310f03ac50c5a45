// SPDX-License-Identifier: Apache-2.0
// lcfs layer create, freeze, rename, quota.
#include <fmt/format.h>
#include <unistd.h>

#include "cli/checks.h"
#include "cli/commands.h"
#include "cli/units.h"
#include "cli/verb.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::string store{};
  std::vector<std::string> names{};
  std::string name{}, other{}, parent{}, quota{};
};
using OptionsPtr = std::shared_ptr<Options>;

// A quota in blocks, rounded up.  0: no limit.
std::uint64_t quota_blocks(std::string const& text) {
  if (text.empty() || text == "none") return 0;
  auto const bytes = parse_size(text);
  return bytes ? *bytes / kBlockSize + (*bytes % kBlockSize != 0 ? 1 : 0) : 0;
}

std::string quota_problem(std::string const& text) {
  if (text == "none") return {};
  auto const size = parse_size(text);
  if (!size) return size.error().message;
  return *size == 0 ? "a quota of 0 would allow nothing; \"none\" removes the quota" : "";
}

CLI::Validator quota_check() {
  return {[](std::string const& text) { return quota_problem(text); }, "", "quota"};
}

Status create_layer(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadWrite));
  LayerId parent = 0;
  if (!options.parent.empty()) {
    LCFS_TRY_ASSIGN(parent, store->resolve_layer(options.parent));
    LCFS_TRY(warn_if_freezing(*store, parent, context, "layer create"));
  }
  // An ordinary user must be able to write to the root directory of a base layer.
  LCFS_TRY(store->create_layer(
      options.name, parent,
      {.quota_blocks = quota_blocks(options.quota), .root = {geteuid(), getegid()}}));
  return store.close();
}

Status rename_layer(Options const& options, Context& context) {
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

Status freeze_layers(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadWrite));
  for_each_name(options.names, context, "layer freeze", [&](std::string const& name) -> Status {
    LCFS_TRY_ASSIGN(auto const id, store->resolve_layer(name));
    return store->freeze_layer(id);
  });
  return store.close();
}

}  // namespace

void add_layer_changes(CLI::App& group, Context& context) {
  auto options = std::make_shared<Options>();
  auto* create =
      add_verb(group, context, options, "create", "Create a writable layer, empty or a clone",
               "create work --parent debian:12", create_layer);
  create
      ->add_option("--parent", options->parent,
                   "Layer to clone; if it is writable, it becomes frozen")
      ->check([](std::string const& text) {
        return text.empty() ? std::string("must not be empty") : std::string();
      })
      ->type_name("LAYER");
  create->add_option("--quota", options->quota, "Maximum size that the layer can own")
      ->type_name("SIZE")
      ->check(quota_check());
  create->add_option("NAME", options->name, "Name of the new layer")
      ->required()
      ->check(layer_name_check());

  auto* freeze = add_verb(group, context, options, "freeze", "Make layers permanently read-only",
                          "freeze work", freeze_layers);
  freeze->add_option("LAYER", options->names, "Layers")->required();

  auto* rename = add_verb(group, context, options, "rename", "Rename a layer", "rename work tried",
                          rename_layer);
  rename->add_option("OLD", options->name, kLayerHelp)->required();
  rename->add_option("NEW", options->other, "New name")->required()->check(layer_name_check());

  auto* quota = add_verb(group, context, options, "quota", "Limit what a writable layer can own",
                         "quota work 2G", set_quota);
  quota->add_option("LAYER", options->name, kLayerHelp)->required();
  quota->add_option("SIZE", options->quota, "Maximum size that it can own, or \"none\"")
      ->required()
      ->check(quota_check());
}

}  // namespace lcfs::cli
