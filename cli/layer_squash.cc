// SPDX-License-Identifier: Apache-2.0
// lcfs layer squash, apply: make a layer from the difference between two others, or from a tar.
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
    LCFS_TRY(warn_if_freezing(*store, onto, context, "layer squash"));
  }
  StopOnSignal const signals(context.io);
  LCFS_TRY(squash_layer(*store, onto, what, options.name, signals.stop()));
  return store.close();
}

Status apply(Options const& options, Context& context) {
  if (options.file == "-" && isatty(context.io.in_fd) == 1)
    return Error::invalid("standard input is a terminal; name a file, or redirect it");
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadWrite));
  LCFS_TRY_ASSIGN(auto const parent, store->resolve_layer(options.layer));
  LCFS_TRY(warn_if_freezing(*store, parent, context, "layer apply"));
  StopOnSignal const signals(context.io);
  LCFS_TRY(importer::apply_changeset(
      *store, parent, {options.file, options.name, context.io.in_fd, &signals.stop()}));
  return store.close();
}

}  // namespace

void add_layer_squash(CLI::App& group, Context& context) {
  auto options = std::make_shared<Options>();
  auto* flat = add_verb(group, context, options, "squash", "Merge layers into one",
                        "squash work --onto debian:12 work-flat", squash);
  flat->add_option("--onto", options->onto, "Parent of the new layer (default: none)")
      ->type_name("PARENT");
  flat->add_option("LAYER", options->layer, "Layer whose tree the new layer gets")->required();
  flat->add_option("NAME", options->name, "Name of the new, frozen layer")
      ->required()
      ->check(layer_name_check());

  auto* changeset =
      add_verb(group, context, options, "apply", "Apply an OCI layer tar as a new layer",
               "apply debian:12 change.tar changed", apply);
  changeset
      ->add_option("LAYER", options->layer,
                   "Parent of the new layer; if it is writable, it becomes frozen")
      ->required();
  changeset
      ->add_option("FILE", options->file, "The tar: uncompressed, gzip or zstd (-: standard input)")
      ->required();
  changeset->add_option("NAME", options->name, "Name of the new, frozen layer")
      ->required()
      ->check(layer_name_check());
}

}  // namespace lcfs::cli
