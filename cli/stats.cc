// SPDX-License-Identifier: Apache-2.0
// lcfs stats: shows the counters of a mount's server, or the I/O of opening an unmounted store.
#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/print.h"
#include "cli/store_arg.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::string store{}, layer{};
  bool json = false, prometheus = false, clear = false;
};

struct Number {
  char const* name;  // JSON key; the Prometheus metric is lcfs_NAME
  std::uint64_t value;
};
using Numbers = std::vector<Number>;

Numbers numbers_of(Store::Stats const& stats) {
  return {{"cache_bytes", stats.cache_bytes},
          {"cache_limit_bytes", stats.cache_limit},
          {"cache_hits", stats.cache_hits},
          {"cache_misses", stats.cache_misses},
          {"dirty_bytes", stats.dirty_bytes},
          {"device_reads", stats.device_reads},
          {"device_read_bytes", stats.device_read_bytes},
          {"device_writes", stats.device_writes},
          {"device_written_bytes", stats.device_written_bytes},
          {"device_flushes", stats.device_flushes},
          {"checkpoints", stats.checkpoints},
          {"checksum_failures", stats.checksum_failures}};
}

Numbers numbers_of(LayerSpace const& space) {
  return {{"own_bytes", space.own * kBlockSize},
          {"used_bytes", space.used * kBlockSize},
          {"quota_bytes", space.quota * kBlockSize},
          {"inodes", space.inodes}};
}

void print(Options const& options, std::string const& layer, Numbers const& numbers,
           std::ostream& out) {
  if (options.json) {
    Json object{{"mounted", false}};
    if (!layer.empty()) object["layer"] = layer;
    for (auto const& number : numbers) object[number.name] = number.value;
    print_json(out, object);
    return;
  }
  for (auto const& [name, value] : numbers) {
    if (!options.prometheus)
      out << fmt::format("{:<22}{:>16}\n", name, value);
    else if (layer.empty())
      out << fmt::format("lcfs_{} {}\n", name, value);
    else
      out << fmt::format("lcfs_layer_{}{{layer=\"{}\"}} {}\n", name, layer, value);
  }
}

mount::StatsFormat format_of(Options const& options) {
  if (options.json) return mount::StatsFormat::kJson;
  return options.prometheus ? mount::StatsFormat::kPrometheus : mount::StatsFormat::kText;
}

Status run_stats(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto const store, open_store(context, options.store, Access::kReadOnly));
  std::optional<LayerId> layer;
  if (!options.layer.empty()) {
    LCFS_TRY_ASSIGN(layer, store->resolve_layer(options.layer));
  }
  if (store.mounted() && context.served->serving.stats) {
    LCFS_TRY_ASSIGN(auto text,
                    context.served->serving.stats(format_of(options), layer, options.clear));
    if (!text.empty() && !text.ends_with('\n')) text += '\n';
    context.io.out << text;
    return Ok{};
  }
  if (!layer) {
    print(options, {}, numbers_of(store->stats()), context.io.out);
    return Ok{};
  }
  LCFS_TRY_ASSIGN(auto const info, store->layer_info(*layer));
  LCFS_TRY_ASSIGN(auto const space, store->layer_space(*layer));
  print(options, info.name, numbers_of(space), context.io.out);
  return Ok{};
}

}  // namespace

void add_stats(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* cmd = app.add_subcommand("stats", "Show statistics of a mounted store");
  add_store_option(*cmd, options->store);
  auto* json = cmd->add_flag("--json", options->json, "Print one JSON object");
  cmd->add_flag("--prometheus", options->prometheus, "Print metrics in the Prometheus text format")
      ->excludes(json);
  cmd->add_flag("--clear", options->clear, "Then reset the counters");
  cmd->add_option("LAYER", options->layer, "Show the statistics of this layer only");
  cmd->footer("Example:\n  lcfs stats --json work");
  cmd->callback([options, &context] {
    if (auto done = run_stats(*options, context); !done)
      context.exit = fail(context, "stats", done.error());
  });
}

}  // namespace lcfs::cli
