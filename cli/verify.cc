// SPDX-License-Identifier: Apache-2.0
// lcfs verify: verifies the checksums and digests of layers.
#include "verify/verify.h"

#include <fmt/format.h>

#include <cerrno>
#include <unordered_set>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/store_arg.h"
#include "cli/units.h"
#include "exporter/diff_id.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::string store{};
  std::vector<std::string> names{};
  unsigned threads = 2;
  bool all = false, digest = false, json = false, quiet = false;
};

Result<std::vector<LayerId>> wanted_layers(Store const& store, Options const& options) {
  std::vector<LayerId> ids;
  if (options.all || options.names.empty()) {
    LCFS_TRY(store.for_each_layer([&ids](LayerInfo const& l) {
      ids.push_back(l.id);
      return true;
    }));
    return ids;
  }
  for (auto const& name : options.names) {
    LCFS_TRY_ASSIGN(auto const target, store.resolve(name));
    if (target.layer != 0) ids.push_back(target.layer);
    if (target.image == 0) continue;
    LCFS_TRY_ASSIGN(auto const layers, store.image_layers(target.image));
    for (auto const& l : layers) ids.push_back(l.id);
  }
  return ids;
}

char const* check_text(verify::VerifiedLayer::Check check) {
  switch (check) {
    case verify::VerifiedLayer::kNotChecked: return "not checked";
    case verify::VerifiedLayer::kSame: return "same";
    case verify::VerifiedLayer::kDifferent: break;
  }
  return "different";
}

Result<std::string> name_of(Store const& store, LayerId id) {
  if (id == 0) return std::string{};
  LCFS_TRY_ASSIGN(auto const info, store.layer_info(id));
  return info.name;
}

void report(Store const& store, verify::Damage const& d, bool json, Io const& io) {
  auto const layer = name_of(store, d.layer), owner = name_of(store, d.owner);
  if (json) {
    Json line{{"damage", d.text},
              {"layer", layer ? *layer : ""},
              {"owner", owner && !owner->empty() ? Json(*owner) : Json()}};
    if (d.path.empty())
      line["path"] = nullptr;
    else
      put_bytes(line, "path", d.path);
    line["inode"] = d.inode;
    line["file_offset"] = d.file_offset;
    line["offset"] = d.device_offset == kNoOffset ? Json(nullptr) : Json(d.device_offset);
    print_json(io.out, line);
    return;
  }
  io.out << fmt::format("layer {}: ", layer ? *layer : "?");
  if (d.inode != 0)
    io.out << fmt::format(
        "{}: at {}: ", d.path.empty() ? fmt::format("inode {}", d.inode) : escape(d.path),
        d.file_offset);
  if (d.device_offset != kNoOffset) io.out << fmt::format("offset {:#x}: ", d.device_offset);
  io.out << escape_controls(d.text) << '\n';
}

// Damage that checksums cannot detect: the data is stored as it was written, but is not what it was
// meant to be.
void report_differences(verify::VerifiedLayer const& l, Io const& io) {
  if (l.digest == verify::VerifiedLayer::kDifferent)
    io.out << fmt::format(
        "layer {}: digest: different: its tree has changed since the digest was recorded\n",
        l.info.name);
  if (l.diff_id == verify::VerifiedLayer::kDifferent)
    io.out << fmt::format(
        "layer {}: diff_id: different: the tar made from its files is no longer {}\n", l.info.name,
        digest_text(l.info.diff_id));
}

Status run_verify(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store,
                                         options.digest ? Access::kReadWrite : Access::kReadOnly));
  LCFS_TRY_ASSIGN(auto ids, wanted_layers(*store, options));
  bool const named = !options.all && !options.names.empty();
  auto const asked = std::unordered_set<LayerId>(ids.begin(), ids.end()).size();
  StopOnSignal const stop(context.io);
  Progress progress(context.io,
                    options.quiet || options.json ? Progress::Mode::kNone : Progress::Mode::kAuto);
  verify::VerifyOptions how;
  how.threads = options.threads;
  how.record = options.digest;
  how.stop = &stop.stop();
  how.progress = [&progress](std::string_view layer, std::uint64_t done, std::uint64_t of) {
    progress.layers(layer, done, of);
  };
  how.diff_id = [&stop](Store& from, LayerInfo const& layer) {
    return exporter::makes_its_diff_id(from, layer, &stop.stop());
  };
  LCFS_TRY_ASSIGN(auto const layers,
                  verify::verify_layers(*store, std::move(ids), how, [&](verify::Damage const& d) {
                    progress.finish();
                    report(*store, d, options.json, context.io);
                  }));
  progress.finish();
  if (named && layers.size() < asked)  // a layer that was not read must not be reported as sound
    return Error::not_found(fmt::format("{} of the {} layers were removed meanwhile",
                                        asked - layers.size(), asked))
        .in(store->device().name());
  std::uint64_t damaged = 0, bytes = 0;
  Table table({"LAYER", "NODES", "DATA", "DAMAGED", "DIGEST", "DIFF_ID"}, "lrrrll");
  for (auto const& l : layers) {
    bool const differs = l.digest == verify::VerifiedLayer::kDifferent ||
                         l.diff_id == verify::VerifiedLayer::kDifferent;
    damaged += l.damaged + (differs ? 1 : 0);
    bytes += l.data_blocks * kBlockSize + l.nodes * kNodeSize;
    table.add({l.info.name, std::to_string(l.nodes), size_text(l.data_blocks * kBlockSize),
               std::to_string(l.damaged),
               l.digest == verify::VerifiedLayer::kNotChecked && l.tree ? "recorded"
                                                                        : check_text(l.digest),
               check_text(l.diff_id)});
    if (options.json)
      print_json(context.io.out,
                 {{"layer", l.info.name},
                  {"nodes", l.nodes},
                  {"data_bytes", l.data_blocks * kBlockSize},
                  {"damaged", l.damaged},
                  {"digest", digest_or_null(l.tree.has_value(), l.tree.value_or(Digest{}))},
                  {"digest_check", check_text(l.digest)},
                  {"diff_id", check_text(l.diff_id)}});
    else
      report_differences(l, context.io);
  }
  if (options.json) {
    print_json(context.io.out, {{"layers", layers.size()},
                                {"read_bytes", bytes},
                                {"damaged", damaged},
                                {"sound", damaged == 0}});
  } else if (!options.quiet) {
    table.print(context.io.out);
    context.io.out << fmt::format("{} layers, {} read, {}\n", layers.size(), size_text(bytes),
                                  damaged == 0 ? "all sound" : fmt::format("{} damaged", damaged));
  }
  if (damaged != 0) context.exit = kDamage;
  return options.digest ? store.close() : Status{};
}

}  // namespace

void add_verify(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* cmd = app.add_subcommand("verify", "Verify the checksums and digests of layers");
  add_store_option(*cmd, options->store);
  auto* all = cmd->add_flag("--all", options->all, "All layers (the default without a NAME)");
  cmd->add_flag("--digest", options->digest,
                "Compute and record the digest of each frozen layer's tree");
  cmd->add_option("--threads", options->threads, "Number of reader threads (default: 2)")
      ->type_name("N")
      ->check(CLI::Range(1u, 256u));
  cmd->add_flag("-q,--quiet", options->quiet, "Report damage only");
  cmd->add_flag("--json", options->json,
                "Print one JSON object per damaged block and layer, then totals");
  cmd->add_option("NAME", options->names, "Layers, or images for all their layers")->excludes(all);
  cmd->footer("Example:\n  lcfs verify debian:12");
  cmd->callback([options, &context] {
    if (auto done = run_verify(*options, context); !done)
      context.exit = fail(context, "verify", done.error());
  });
}

}  // namespace lcfs::cli
