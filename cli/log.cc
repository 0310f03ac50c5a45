// SPDX-License-Identifier: Apache-2.0
// lcfs log: lists the restore points of a store.  undo.cc goes back to them.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/print.h"
#include "cli/store_arg.h"
#include "cli/units.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::string store{}, drop{};
  std::optional<std::uint32_t> keep{};
  bool json = false;
};

// The number of restore points to drop: "all" or a number.
std::optional<std::uint64_t> parse_drop(std::string const& text) {
  if (text == "all") return ~std::uint64_t{0};
  std::uint64_t n = 0;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return n;
}

void print_log(Store const& store, Options const& options, Io const& io) {
  auto const history = store.history();
  Table table({"GENERATION", "WRITTEN", "LAYERS", "IMAGES", "HOLDS", "BEFORE"}, "rlrrrl");
  for (auto it = history.rbegin(); it != history.rend(); ++it) {
    auto const& c = it->checkpoint;
    auto const held = it->held_blocks * kBlockSize;
    if (options.json) {
      Json line{{"generation", c.generation},
                {"written", time_json(c.written_ns)},
                {"layers", c.layer_count},
                {"images", c.image_count},
                {"held_bytes", held}};
      put_bytes(line, "before", c.text);
      print_json(io.out, line);
      continue;
    }
    table.add({std::to_string(c.generation), time_text(c.written_ns), std::to_string(c.layer_count),
               std::to_string(c.image_count), size_text(held), escape(c.text)});
  }
  auto const now = store.superblock();
  auto const all = store.space().history * kBlockSize;
  if (options.json) {
    print_json(io.out, {{"generation", now.generation},
                        {"written", time_json(now.written_ns)},
                        {"layers", now.layer_count},
                        {"images", now.image_count},
                        {"held_bytes", all},
                        {"before", nullptr},
                        {"keep", store.keep()}});
    return;
  }
  table.print(io.out);
  io.out << fmt::format(
      "{} of at most {} restore points; they use {}, which is freed when space is needed\n",
      history.size(), store.keep(), size_text(all));
}

Status run_log(Options const& options, Context& context) {
  bool const changes = options.keep || !options.drop.empty();
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store,
                                         changes ? Access::kReadWrite : Access::kReadOnly));
  if (options.keep) LCFS_TRY(store->set_keep(*options.keep));
  if (!options.drop.empty()) {
    auto const have = store->history().size();
    LCFS_TRY(store->drop_history(have - std::min<std::uint64_t>(have, *parse_drop(options.drop))));
  }
  print_log(*store, options, context.io);
  return changes ? store.close() : Status{};
}

}  // namespace

void add_log(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* cmd = app.add_subcommand("log", "List restore points");
  add_store_option(*cmd, options->store);
  cmd->add_option("--keep", options->keep, "Set the maximum number of restore points")
      ->type_name("N")
      ->check(CLI::Range(std::uint32_t{0}, kMaxKept));
  cmd->add_option("--drop", options->drop,
                  "Drop the N oldest restore points, or all; frees their space")
      ->type_name("N|all")
      ->check(CLI::Validator(
          [](std::string const& text) {
            return parse_drop(text) ? "" : "\"" + text + "\" is neither a number nor \"all\"";
          },
          "", "number"));
  cmd->add_flag("--json", options->json,
                "Print one JSON object per restore point, then one for the store");
  cmd->footer("Example:\n  lcfs log");
  cmd->callback([options, &context] {
    if (auto done = run_log(*options, context); !done)
      context.exit = fail(context, "log", done.error());
  });
}

}  // namespace lcfs::cli
