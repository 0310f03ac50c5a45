// SPDX-License-Identifier: Apache-2.0
// lcfs layer rm: removes layers.
#include <algorithm>

#include "cli/removal_plan.h"
#include "cli/verb.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::string store{};
  std::vector<std::string> names{};
  bool dry_run = false, json = false, lazy = false;
};

struct Meant {
  LayerId id = 0;
  std::string given{};
};

// The layers to remove, children before parents in whatever order they were named: a child's id is
// greater than its parent's.  Reports unknown names and continues.
std::vector<Meant> layers_meant(Options const& options, Store const& store, Context& context) {
  std::vector<Meant> all;
  for_each_name(options.names, context, "layer rm", [&](std::string const& name) -> Status {
    LCFS_TRY_ASSIGN(auto const id, store.resolve_layer(name));
    all.push_back({id, name});
    return Ok{};
  });
  std::stable_sort(all.begin(), all.end(),
                   [](Meant const& x, Meant const& y) { return x.id > y.id; });
  all.erase(std::unique(all.begin(), all.end(),
                        [](Meant const& x, Meant const& y) { return x.id == y.id; }),
            all.end());
  return all;
}

Status remove_layers(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store,
                                         options.dry_run ? Access::kReadOnly : Access::kReadWrite));
  auto const how = options.lazy ? Remove::kLazy : Remove::kUnused;
  RemovalPlan plan(*store);
  for (auto const& [id, given] : layers_meant(options, *store, context)) {
    auto const before = store->layer_info(id);
    auto done = options.dry_run ? plan.layer(id, how) : store->remove_layer(id, how);
    if (!done) {
      auto error = explain_busy(*store, id, std::move(done).error());
      error.path = given;
      context.exit = fail(context, "layer rm", error);
    } else if (!options.dry_run && before && before->children + before->images != 0) {
      warn(context, "layer rm",
           fmt::format("{}: will be deleted later: {}", given, dependents(*store, *before)));
    }
  }
  if (!options.dry_run) return store.close();
  plan.print(options.json, context.io.out);
  return Ok{};
}

}  // namespace

void add_layer_rm(CLI::App& group, Context& context) {
  auto options = std::make_shared<Options>();
  auto* rm = add_verb(group, context, options, "rm", "Remove layers without children",
                      "rm --dry-run work", remove_layers);
  rm->add_flag("--lazy", options->lazy,
               "Remove the name; a layer with children is deleted with the last");
  rm->add_flag("-n,--dry-run", options->dry_run, "Remove nothing; show what would be freed");
  rm->add_flag("--json", options->json, "With --dry-run, print one JSON object per layer")
      ->needs("--dry-run");
  rm->add_option("LAYER", options->names, "Layers")->required();
}

}  // namespace lcfs::cli
