// SPDX-License-Identifier: Apache-2.0
// lcfs import: imports the images of an archive into a store.
#include "importer/import.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>

#include "cli/checks.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/make_store.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/store_arg.h"
#include "cli/units.h"
#include "heal/heal.h"

namespace lcfs::cli {
namespace {

struct Options {
  importer::ImportOptions import{};
  std::string store{}, size{}, progress = "auto";
  bool list = false, quiet = false, json = false, heal = false;
  std::optional<heal::HealReport> healed{};
};

Progress::Mode progress_mode(std::string const& text) {
  return text == "plain"  ? Progress::Mode::kPlain
         : text == "none" ? Progress::Mode::kNone
                          : Progress::Mode::kAuto;
}

void print_report(Options const& options, importer::ImportReport const& report, Io const& io) {
  if (options.json) {
    Json object;
    object["images"] = Json::array();
    for (auto const& image : report.images) {
      std::vector<ImageLayerLine> lines;
      for (auto const& layer : image.layers)
        lines.push_back({layer.name, layer.diff_id, layer.chain_id, layer.bytes, layer.is_new});
      object["images"].push_back(image_json(image.names, image.config_digest, lines));
    }
    object["seconds"] = report.seconds;
    if (options.healed) {
      object["verified_layers"] = options.healed->layers;
      object["damaged"] = options.healed->damaged;
      object["healed"] = options.healed->healed;
    }
    print_json(io.out, object);
    return;
  }
  if (options.quiet) return;
  if (options.healed)
    io.out << fmt::format("{} existing layers verified; {} blocks damaged, {} healed\n",
                          options.healed->layers, options.healed->damaged, options.healed->healed);
  for (auto const& image : report.images) {
    std::size_t fresh = 0;
    for (auto const& layer : image.layers) fresh += layer.is_new ? 1u : 0u;
    io.out << fmt::format(
        "{}  {}  {} layers, {} new\n",
        image.names.empty() ? "-" : escape(fmt::format("{}", fmt::join(image.names, ", "))),
        digest_text(image.config_digest), image.layers.size(), fresh);
  }
}

Status list_images(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto const images, importer::list_archive(options.import));
  Table table({"NAME", "PLATFORM", "ID", "LAYERS", "BYTES"}, "lllrr");
  Json object;
  object["images"] = Json::array();
  for (auto const& image : images) {
    Json line;
    line["names"] = image.names;
    line["id"] = digest_text(image.config_digest);
    line["platform"] = image.platform;
    line["manifest"] = digest_text(image.manifest_digest);
    line["layers"] = image.layers;
    line["bytes"] = image.bytes;
    object["images"].push_back(std::move(line));
    auto names = image.names;
    if (names.empty()) names.emplace_back("-");
    for (auto const& name : names)
      table.add({escape(name), escape(image.platform),
                 digest_hex(image.config_digest).substr(0, 12), std::to_string(image.layers),
                 std::to_string(image.bytes)});
  }
  if (options.json)
    print_json(context.io.out, object);
  else
    table.print(context.io.out);
  return Ok{};
}

// The images are durable when it returns.  The caller closes the store.
Result<importer::ImportReport> import_into(Store& store, Options& options, Context const& context) {
  if (options.heal) {
    LCFS_TRY_ASSIGN(options.healed, heal::heal_from_archive(store, options.import));
  }
  Progress progress(context.io,
                    options.quiet ? Progress::Mode::kNone : progress_mode(options.progress));
  auto how = options.import;
  how.progress = [&progress](importer::Progress const& now) {
    auto const layers = now.layers == 0
                            ? ""
                            : fmt::format("layer {} of {}  ",
                                          std::min(now.layers_done + 1, now.layers), now.layers);
    auto const blob = now.layer.substr(now.layer.rfind('/') + 1)
                          .substr(0, 12);  // the first digits of a digest are enough
    progress.bytes(now.bytes, now.total, layers + blob);
  };
  return importer::import_archive(store, how);
}

// Imports into the existing store, or into a new one that is kept only if the import succeeds.
Result<importer::ImportReport> import_images(Options& options, Context& context) {
  auto const path = store_path(context.io, options.store);
  struct stat st {};
  if (stat(path.c_str(), &st) == 0 || errno != ENOENT) {
    LCFS_TRY_ASSIGN(auto store, open_store(context, path, Access::kReadWrite));
    LCFS_TRY_ASSIGN(auto report, import_into(*store, options, context));
    LCFS_TRY(store.close());
    return report;
  }
  LCFS_TRY_ASSIGN(auto made, ProvisionalStore::make(
                                 path, options.size.empty() ? 0 : *parse_size(options.size)));
  if (!options.quiet)
    warn(context, "import",
         fmt::format("{}: created a store that can grow to {}", path, size_text(made.limit())));
  LCFS_TRY_ASSIGN(auto report, import_into(made.store(), options, context));
  LCFS_TRY(made.store().close());
  made.keep();
  return report;
}

Status run_import(Options& options, Context& context) {
  StopOnSignal const signals(context.io);
  options.import.stop = &signals.stop();
  options.import.input = context.io.in_fd;
  if (options.list) return list_images(options, context);
  LCFS_TRY_ASSIGN(auto const report, import_images(options, context));
  print_report(options, report, context.io);
  if (options.healed && options.healed->healed < options.healed->damaged)
    return Error::corrupt(fmt::format("{} damaged blocks could not be healed",
                                      options.healed->damaged - options.healed->healed));
  return Ok{};
}

}  // namespace

void add_import(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* cmd = app.add_subcommand("import", "Import container images into a store");
  add_store_option(*cmd, options->store);
  cmd->add_option("--image", options->import.names,
                  "Import only this image; can be given several times")
      ->type_name("NAME")
      ->expected(1)
      ->take_all();
  cmd->add_option("--platform", options->import.platform,
                  "Platform to select from multi-platform images")
      ->type_name("OS/ARCH")
      ->check(platform_check());
  cmd->add_flag("--list", options->list, "List the images in the archive; import nothing");
  cmd->add_flag("--heal", options->heal, "Verify existing layers, and replace damaged blocks");
  cmd->add_flag("--json", options->json, "Print the result as one JSON object");
  cmd->add_flag("-q,--quiet", options->quiet, "Print neither result nor progress");
  cmd->add_option("--progress", options->progress,
                  "auto (a bar on a terminal, default), plain or none")
      ->type_name("WHEN")
      ->check(CLI::IsMember({"auto", "plain", "none"}));
  cmd->add_option("--size", options->size,
                  "Maximum size of a new store (default: 64G or the file system's)")
      ->type_name("SIZE")
      ->check(size_check());
  cmd->add_option("ARCHIVE", options->import.source,
                  "docker-archive, oci-archive, OCI layout, or - (standard input)")
      ->required();
  cmd->footer("Example:\n  docker save debian:12 | lcfs import -");
  cmd->callback([options, &context] {
    if (auto done = run_import(*options, context); !done)
      context.exit = fail(context, "import", done.error());
  });
}

}  // namespace lcfs::cli
