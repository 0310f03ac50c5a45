// SPDX-License-Identifier: Apache-2.0
// lcfs mkfs: creates a store.
#include <fmt/format.h>

#include "cli/checks.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/make_store.h"
#include "cli/print.h"
#include "cli/units.h"

namespace lcfs::cli {
namespace {

struct Options {
  MakeStore store{};
  std::string size{}, uuid{};
  bool quiet = false, json = false;
};

// Returns a usage error, or nothing.
std::string uuid_problem(std::string const& text) {
  return parse_uuid(text) ? "" : "\"" + text + "\" is not a UUID";
}

void print(Options const& options, MadeStore const& made, Io const& io) {
  if (options.json) {
    Json object;
    put_bytes(object, "store", options.store.path);
    object["uuid"] = made.uuid ? Json(uuid_text(*made.uuid)) : Json(nullptr);
    object["label"] = options.store.label;
    object["size"] = made.size;
    object["created"] = made.created;
    object["dry_run"] = options.store.dry_run;
    print_json(io.out, object);
  } else if (!options.quiet) {
    io.out << fmt::format("{}{}\nuuid   {}\nsize   {} ({} bytes)\n", escape(options.store.path),
                          options.store.dry_run ? " (dry run: nothing was written)" : "",
                          made.uuid ? uuid_text(*made.uuid) : "(random)", size_text(made.size),
                          made.size);
  }
}

}  // namespace

void add_mkfs(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* cmd = app.add_subcommand("mkfs", "Create a store");
  cmd->add_option("--size", options->size, "Size; creates or resizes a file to it (10G = 10 GiB)")
      ->type_name("SIZE")
      ->check(size_check());
  cmd->add_option("-L,--label", options->store.label, "Label, at most 64 bytes")
      ->type_name("LABEL");
  cmd->add_option("-U,--uuid", options->uuid, "UUID (default: random)")
      ->type_name("UUID")
      ->check(CLI::Validator(uuid_problem, "", "uuid"));
  cmd->add_flag("-f,--force", options->store.force,
                "Overwrite a store, another file system or data");
  cmd->add_flag("-n,--dry-run", options->store.dry_run, "Make all checks, but write nothing");
  cmd->add_flag("-q,--quiet", options->quiet, "Print nothing");
  cmd->add_flag("--json", options->json, "Print one JSON object");
  cmd->add_option("STORE", options->store.path, "File or block device")->required();
  cmd->set_version_flag("-V,--version", version_text(), "Print the version");
  cmd->footer("Example:\n  lcfs mkfs --size 10G -L images /srv/images.lcfs");
  cmd->callback([options, &context] {
    if (!options->size.empty()) options->store.size = *parse_size(options->size);
    if (!options->uuid.empty()) options->store.uuid = *parse_uuid(options->uuid);
    auto const made = make_store(options->store);
    if (!made) {
      context.exit = fail(context, "mkfs", made.error());
      return;
    }
    print(*options, *made, context.io);
  });
}

}  // namespace lcfs::cli
