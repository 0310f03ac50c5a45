// SPDX-License-Identifier: Apache-2.0
// lcfs undo: goes back to a restore point, or restores one removed layer.
#include <fmt/format.h>

#include <map>
#include <unordered_set>

#include "cli/checks.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/print.h"
#include "cli/store_arg.h"
#include "cli/units.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::string store{}, layer{}, as{};
  std::uint64_t generation = 0, steps = 0;
  bool dry_run = false, yes = false, json = false;
};

// What happens to one layer, or to one name of an image.
struct Line {
  enum What : std::uint8_t { kBack, kGone, kOther } what = kOther;
  std::string name{},
      was{};           // name: empty for an image without one.  was: its name then, if changed
  bool loses = false;  // changes made since then are lost
  // For an image name: the id of the image that it means then, or now if it means none then.
  std::optional<Digest> image{};
};

char const* word(Line::What what) {
  switch (what) {
    case Line::kBack: return "back";
    case Line::kGone: return "gone";
    case Line::kOther: break;
  }
  return "as it was";
}

std::map<std::string, Digest> names_of(std::vector<ImageDetails> const& images) {
  std::map<std::string, Digest> names;
  for (auto const& image : images) {
    for (auto const& name : image.names) names.emplace(name, image.info.config_digest);
  }
  return names;
}

// Compares image names, and images without a name.
Status compare_images(Store const& store, std::vector<ImageDetails> const& then,
                      std::vector<Line>& lines) {
  std::vector<ImageDetails> now;
  LCFS_TRY(store.for_each_image([&now](ImageDetails const& image) {
    now.push_back(image);
    return true;
  }));
  auto const before = names_of(then);
  auto after = names_of(now);
  for (auto const& [name, id] : before) {
    auto const it = after.find(name);
    if (it == after.end())
      lines.push_back({Line::kBack, name, {}, false, id});
    else if (it->second != id)
      lines.push_back({Line::kOther, name, {}, false, id});
  }
  for (auto const& [name, id] : after)
    if (!before.contains(name)) lines.push_back({Line::kGone, name, {}, false, id});
  auto const nameless = [&lines](std::vector<ImageDetails> const& of,
                                 std::vector<ImageDetails> const& others, Line::What what) {
    std::unordered_set<ImageId> ids;
    for (auto const& other : others) ids.insert(other.info.id);
    for (auto const& image : of) {
      if (image.names.empty() && !ids.contains(image.info.id))
        lines.push_back({what, {}, {}, false, image.info.config_digest});
    }
  };
  nameless(then, now, Line::kBack);
  nameless(now, then, Line::kGone);
  return Ok{};
}

// An imported layer can be imported again, so removing it loses nothing; other layers are lost.
Result<std::vector<Line>> compare(Store const& store, std::uint64_t generation) {
  LCFS_TRY_ASSIGN(auto const then, store.kept_contents(generation));
  std::map<LayerId, LayerInfo> now;
  LCFS_TRY(store.for_each_layer([&now](LayerInfo const& l) {
    now.emplace(l.id, l);
    return true;
  }));
  std::vector<Line> lines;
  for (auto const& was : then.layers) {
    auto const it = now.find(was.id);
    if (it == now.end()) {
      lines.push_back({Line::kBack, was.name, {}, false, {}});
      continue;
    }
    auto const& is = it->second;
    bool const same_tree = is.root == was.root;
    if (!same_tree || is.name != was.name || is.state != was.state)
      lines.push_back({Line::kOther, is.name, is.name != was.name ? was.name : "", !same_tree, {}});
    now.erase(it);
  }
  for (auto const& [id, is] : now) lines.push_back({Line::kGone, is.name, {}, !is.has_digests, {}});
  LCFS_TRY(compare_images(store, then.images, lines));
  return lines;
}

Json line_json(Line const& l) {
  if (l.image)
    return {{"image", l.name.empty() ? Json() : Json(l.name)},
            {"id", digest_text(*l.image)},
            {"becomes", word(l.what)}};
  return {{"layer", l.name},
          {"becomes", word(l.what)},
          {"named", l.was.empty() ? Json() : Json(l.was)},
          {"loses_changes", l.loses}};
}

std::vector<std::string> line_row(Line const& l) {
  if (l.image) {
    auto const id = digest_hex(*l.image).substr(0, 12);
    return {"image", l.name.empty() ? id : escape(l.name), word(l.what),
            l.what == Line::kOther ? fmt::format("means {}", id) : ""};
  }
  return {
      "layer", l.name, word(l.what),
      l.was.empty() ? (l.loses ? "newer changes are lost" : "") : fmt::format("named {}", l.was)};
}

void print_plan(Options const& options, std::vector<Line> const& lines, std::uint64_t generation,
                bool done, Io const& io) {
  if (options.json) {
    for (auto const& l : lines) print_json(io.out, line_json(l));
    print_json(io.out, {{"layer", nullptr}, {"generation", generation}, {"done", done}});
    return;
  }
  Table table({"", "NAME", "BECOMES", ""}, "llll");
  for (auto const& l : lines) table.add(line_row(l));
  if (!lines.empty()) table.print(io.out);
  io.out << fmt::format("{} {}; {}\n",
                        done ? "went back to restore point" : "would go back to restore point",
                        generation, done ? "lcfs undo reverts this" : "nothing was done");
}

Status undo_store(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store,
                                         options.dry_run ? Access::kReadOnly : Access::kReadWrite));
  if (store.mounted() && !options.dry_run)
    return Error::busy(
        "the store is mounted; unmount it, or restore a single layer (lcfs undo --layer NAME)");
  auto const history = store->history();
  auto generation = options.generation;
  if (generation == 0) {
    auto const steps = std::max<std::uint64_t>(options.steps, 1);
    if (steps > history.size())
      return Error::not_found(
          fmt::format("there are only {} restore points; see lcfs log", history.size()));
    generation = history[history.size() - steps].checkpoint.generation;
  }
  LCFS_TRY_ASSIGN(auto const lines, compare(*store, generation));
  std::string lost;
  for (auto const& l : lines)
    if (l.loses) lost += (lost.empty() ? "" : ", ") + l.name;
  if (!options.dry_run && !options.yes && !lost.empty())
    return Error::invalid(
        fmt::format("newer changes of {} would be lost; use --yes to discard them, or --dry-run to "
                    "see what would change",
                    lost));
  if (!options.dry_run) {
    LCFS_TRY(store->go_back(generation));
    LCFS_TRY(store.close());
  }
  print_plan(options, lines, generation, !options.dry_run, context.io);
  return Ok{};
}

Status undo_layer(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadWrite));
  LCFS_TRY_ASSIGN(auto const back,
                  store->bring_back(options.layer, options.generation, options.as));
  for (auto const& l : back) {
    if (options.json)
      print_json(context.io.out, line_json({Line::kBack, l.name, {}, false, {}}));
    else
      context.io.out << fmt::format("restored {}\n", l.name);
  }
  return store.close();
}

Status run_undo(Options const& options, Context& context) {
  return options.layer.empty() ? undo_store(options, context) : undo_layer(options, context);
}

}  // namespace

void add_undo(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* cmd = app.add_subcommand("undo", "Go back to a restore point, or restore a removed layer");
  add_store_option(*cmd, options->store);
  auto* steps = cmd->add_option("--steps", options->steps, "Undo N operations (default: 1)")
                    ->type_name("N")
                    ->check(positive_check());
  auto* layer =
      cmd->add_option("--layer", options->layer, "Restore this removed layer and its parents")
          ->type_name("NAME")
          ->excludes(steps);
  cmd->add_option("--as", options->as, "Name for the restored layer")
      ->type_name("NAME")
      ->needs(layer)
      ->check(layer_name_check());
  cmd->add_flag("-n,--dry-run", options->dry_run, "Change nothing; show what would happen")
      ->excludes(layer);
  cmd->add_flag("-y,--yes", options->yes, "Discard newer changes");
  cmd->add_flag("--json", options->json, "Print one JSON object per layer or image");
  cmd->add_option("GENERATION", options->generation,
                  "Restore point, as listed by lcfs log (default: the newest)")
      ->check(positive_check())
      ->excludes(steps);
  cmd->footer("Example:\n  lcfs layer rm web; lcfs undo --layer web");
  cmd->callback([options, &context] {
    if (auto done = run_undo(*options, context); !done)
      context.exit = fail(context, "undo", done.error());
  });
}

}  // namespace lcfs::cli
