// SPDX-License-Identifier: Apache-2.0
// lcfs layer create, freeze, rename, quota.  Other files have commit, rm, squash and apply.
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
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadWrite));
  LayerId parent = 0;
  if (!options.parent.empty()) {
    LCFS_TRY_ASSIGN(parent, store->resolve_layer(options.parent));
    LCFS_TRY(tell_freezing(*store, parent, context, "layer create"));
  }
  // A base of somebody who is not root must be writable for them.
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

// Each name on its own: one that fails does not keep the others from it.
template <class Change>
void for_each_name(Options const& options, Context& context, Store& store, char const* what,
                   Change const& change) {
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
  for_each_name(options, context, *store, "layer freeze",
                [&store](LayerId id) { return store->freeze_layer(id); });
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
                   "Layer, image, digest or unique prefix to clone; an open layer is frozen by it")
      ->check([](std::string const& text) {
        return text.empty() ? std::string("it is empty") : std::string();
      })
      ->type_name("LAYER");
  create->add_option("--quota", options->quota, "The most it may own")
      ->type_name("SIZE")
      ->check(quota_check());
  create->add_option("NAME", options->name, "Name of the new layer")
      ->required()
      ->check(layer_name_check());

  auto* freeze = add_verb(group, context, options, "freeze", "Make layers immutable, for ever",
                          "freeze work", freeze_layers);
  freeze->add_option("LAYER", options->names, "Layers")->required();

  auto* rename = add_verb(group, context, options, "rename", "Give a layer another name",
                          "rename work tried", rename_layer);
  rename->add_option("OLD", options->name, "Layer, image, digest or unique prefix")->required();
  rename->add_option("NEW", options->other, "Its name from now on")
      ->required()
      ->check(layer_name_check());

  auto* quota = add_verb(group, context, options, "quota", "Limit what a writable layer may own",
                         "quota work 2G", set_quota);
  quota->add_option("LAYER", options->name, "Layer, image, digest or unique prefix")->required();
  quota->add_option("SIZE", options->quota, "The most it may own, or \"none\"")
      ->required()
      ->check(quota_check());
}

}  // namespace lcfs::cli
