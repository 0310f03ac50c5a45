// SPDX-License-Identifier: Apache-2.0
// lcfs layer rm.
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

// Those that stand on others first, whatever the order of the names: a child's id is the greater
// one.  A name that means nothing does not keep the others from it.
std::vector<Meant> layers_meant(Options const& options, Store const& store, Context& context) {
  std::vector<Meant> all;
  for (auto const& name : options.names) {
    if (auto id = store.resolve_layer(name); id) {
      all.push_back({*id, name});
    } else {
      if (id.error().path.empty()) id.error().path = name;
      context.exit = fail(context, "layer rm", id.error());
    }
  }
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
           fmt::format("{}: goes with the last that needs it: {}", given,
                       in_the_way(*store, *before)));
    }
  }
  if (!options.dry_run) return store.close();
  plan.print(options.json, context.io.out);
  return Ok{};
}

}  // namespace

void add_layer_rm(CLI::App& group, Context& context) {
  auto options = std::make_shared<Options>();
  auto* rm = add_verb(group, context, options, "rm", "Remove layers that nothing stands on",
                      "rm --dry-run work", remove_layers);
  rm->add_flag("--lazy", options->lazy,
               "One that something stands on loses its name now and goes with the last of those");
  rm->add_flag("-n,--dry-run", options->dry_run, "Remove nothing; tell what would be freed");
  rm->add_flag("--json", options->json, "With --dry-run, print one JSON object a layer")
      ->needs("--dry-run");
  rm->add_option("LAYER", options->names, "Layers")->required();
}

}  // namespace lcfs::cli
