// SPDX-License-Identifier: Apache-2.0
// lcfs image tag, rm, prune.
#include "cli/checks.h"
#include "cli/removal_plan.h"
#include "cli/verb.h"
#include "importer/plan.h"
#include "oci/image_name.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::string store{}, name{};
  std::vector<std::string> names{};
  bool dry_run = false, json = false;
};

// The name of the image that `given` means.  "" if `given` is its digest, which means all names.
Result<std::string> meant_name(std::vector<std::string> const& names, std::string const& given) {
  for (auto const& name : names)
    if (name == given) return name;
  for (auto const& name : names)
    if (oci::same_image_name(name, given) || oci::same_image_name(name, "localhost/" + given))
      return name;
  if (given.starts_with("sha256:") ||
      given.find_first_not_of("0123456789abcdef") == std::string::npos)
    return std::string{};
  return Error::invalid(fmt::format("means {}; give that name", fmt::join(names, ", "))).in(given);
}

Status tag_image(Options const& options, Context& context) {
  std::vector<std::string> names;
  for (auto const& given : options.names) {
    LCFS_TRY_ASSIGN(auto name, oci::full_image_name(given));
    names.push_back(std::move(name));
  }
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadWrite));
  LCFS_TRY_ASSIGN(auto const id, store->resolve_image(options.name));
  LCFS_TRY(store->tag_image(id, names));
  return store.close();
}

Status remove_images(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store,
                                         options.dry_run ? Access::kReadOnly : Access::kReadWrite));
  RemovalPlan plan(*store);
  for_each_name(options.names, context, "image rm", [&](std::string const& given) -> Status {
    LCFS_TRY_ASSIGN(auto const id, store->resolve_image(given));
    LCFS_TRY_ASSIGN(auto const details, store->image(id));
    LCFS_TRY_ASSIGN(auto const name, meant_name(details.names, given));
    return options.dry_run ? plan.image(id, name) : store->remove_image(id, name);
  });
  if (!options.dry_run) return store.close();
  plan.print(options.json, context.io.out);
  return Ok{};
}

Status prune_images(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store,
                                         options.dry_run ? Access::kReadOnly : Access::kReadWrite));
  std::vector<ImageId> nameless;
  LCFS_TRY(store->for_each_image([&nameless](ImageDetails const& image) {
    if (image.names.empty()) nameless.push_back(image.info.id);
    return true;
  }));
  RemovalPlan plan(*store);
  for (auto const id : nameless)
    LCFS_TRY(options.dry_run ? plan.image(id, {}) : store->remove_image(id, {}));
  if (!options.dry_run) return store.close();
  plan.print(options.json, context.io.out);
  return Ok{};
}

}  // namespace

void add_image_changes(CLI::App& group, Context& context) {
  auto options = std::make_shared<Options>();
  auto* tag = add_verb(group, context, options, "tag", "Add tags to an image",
                       "tag debian:12 my/base:1", tag_image);
  tag->add_option("IMAGE", options->name, "Name, id or unique prefix")->required();
  tag->add_option("NAME", options->names,
                  "Names (REPO[:TAG]); a name of another image moves to this one")
      ->required()
      ->check(image_name_check());

  auto const dry_run = [&options](CLI::App* cmd) {
    cmd->add_flag("-n,--dry-run", options->dry_run, "Remove nothing; show what would be freed");
    cmd->add_flag("--json", options->json, "With --dry-run, print one JSON object per line")
        ->needs("--dry-run");
  };
  auto* rm = add_verb(group, context, options, "rm", "Remove tags; the last one deletes the image",
                      "rm debian:12", remove_images);
  dry_run(rm);
  rm->add_option("IMAGE", options->names, "Names, ids or unique prefixes; an id removes all names")
      ->required();

  dry_run(add_verb(group, context, options, "prune", "Remove images without a name",
                   "prune --dry-run", prune_images));
}

}  // namespace lcfs::cli
