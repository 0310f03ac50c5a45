// SPDX-License-Identifier: Apache-2.0
// lcfs layer squash, apply: layers that are made of what differs.
#include <unistd.h>

#include "cli/checks.h"
#include "cli/signals.h"
#include "cli/verb.h"
#include "engine/squash.h"
#include "importer/apply.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::string store{}, layer{}, onto{}, file{}, name{};
};

Status squash(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadWrite));
  LCFS_TRY_ASSIGN(auto const what, store->resolve_layer(options.layer));
  LayerId onto = 0;
  if (!options.onto.empty()) {
    LCFS_TRY_ASSIGN(onto, store->resolve_layer(options.onto));
    LCFS_TRY(tell_freezing(*store, onto, context, "layer squash"));
  }
  StopOnSignal const signals(context.io);
  LCFS_TRY(squash_layer(*store, onto, what, options.name, signals.stop()));
  return store.close();
}

Status apply(Options const& options, Context& context) {
  if (options.file == "-" && isatty(context.io.in_fd) == 1)
    return Error{
        Errc::kInvalid, "standard input is a terminal; a changeset is no text", 0, {}, kNoOffset};
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadWrite));
  LCFS_TRY_ASSIGN(auto const parent, store->resolve_layer(options.layer));
  LCFS_TRY(tell_freezing(*store, parent, context, "layer apply"));
  StopOnSignal const signals(context.io);
  LCFS_TRY(importer::apply_changeset(
      *store, parent, {options.file, options.name, context.io.in_fd, &signals.stop()}));
  return store.close();
}

}  // namespace

void add_layer_squash(CLI::App& group, Context& context) {
  auto options = std::make_shared<Options>();
  auto* flat = add_verb(group, context, options, "squash",
                        "Make one layer of several: the tree of one, on another or on nothing",
                        "squash work --onto debian:12 work-flat", squash);
  flat->add_option("--onto", options->onto, "The layer that the new one stands on; default: none")
      ->type_name("PARENT");
  flat->add_option("LAYER", options->layer, "Layer, image, digest or unique prefix: whose tree")
      ->required();
  flat->add_option("NAME", options->name, "Name of the new, frozen layer")
      ->required()
      ->check(layer_name_check());

  auto* changeset = add_verb(group, context, options, "apply",
                             "Make a layer of another and an OCI changeset (tar)",
                             "apply debian:12 change.tar changed", apply);
  changeset
      ->add_option("LAYER", options->layer,
                   "Layer, image, digest or unique prefix; an open layer is frozen by it")
      ->required();
  changeset->add_option("FILE", options->file, "The tar, plain, gzip or zstd; -: standard input")
      ->required();
  changeset->add_option("NAME", options->name, "Name of the new, frozen layer")
      ->required()
      ->check(layer_name_check());
}

}  // namespace lcfs::cli
