// SPDX-License-Identifier: Apache-2.0
// lcfs df: shows how the space of a store is used, down to the last block.
#include <fmt/format.h>

#include <algorithm>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/print.h"
#include "cli/store_arg.h"
#include "cli/units.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::string store{};
  bool json = false, bytes = false;
};

// The two sums that must be right (I5).
struct Sums {
  std::uint64_t parts = 0;   // all parts of the total
  std::uint64_t layers = 0;  // blocks owned by the layers that have a name
  bool right = false;
};

Sums sums_of(SpaceReport const& space, std::vector<LayerInfo> const& layers) {
  Sums sums;
  sums.parts =
      space.reserved + space.store_tree + space.layers + space.history + space.pending + space.free;
  for (auto const& layer : layers) sums.layers += layer.own_blocks;
  sums.right = sums.parts == space.total && sums.layers <= space.layers;
  return sums;
}

// Blocks that removing the layer would free now; 0 if it cannot be removed.
std::uint64_t frees(LayerInfo const& layer) {
  return layer.children == 0 && layer.images == 0 ? layer.own_blocks : 0;
}

void print_as_json(Store const& store, SpaceReport const& space,
                   std::vector<LayerInfo> const& layers, Sums const& sums, Io const& io) {
  for (auto const& layer : layers) {
    auto const sizes = sizes_of(layer);
    print_json(io.out, {{"layer", layer.name},
                        {"own_bytes", sizes.own * kBlockSize},
                        {"exclusive_bytes", sizes.exclusive * kBlockSize},
                        {"shared_bytes", sizes.shared * kBlockSize},
                        {"inherited_bytes", sizes.inherited * kBlockSize},
                        {"rm_frees_bytes", frees(layer) * kBlockSize}});
  }
  Json object;
  object["uuid"] = uuid_text(store.superblock().uuid);
  put_bytes(object, "label", store.superblock().label);
  object["total_bytes"] = space.total * kBlockSize;
  object["reserved_bytes"] = space.reserved * kBlockSize;
  object["store_tree_bytes"] = space.store_tree * kBlockSize;
  object["layers_bytes"] = space.layers * kBlockSize;
  object["removed_bytes"] = (space.layers - std::min(space.layers, sums.layers)) * kBlockSize;
  object["history_bytes"] = space.history * kBlockSize;
  object["pending_bytes"] = space.pending * kBlockSize;
  object["free_bytes"] = space.free * kBlockSize;
  object["promised_bytes"] = space.promised * kBlockSize;
  object["sum_ok"] = sums.right;
  print_json(io.out, object);
}

void print_as_text(Options const& options, SpaceReport const& space,
                   std::vector<LayerInfo> const& layers, Sums const& sums, Io const& io) {
  auto const size = [&options](std::uint64_t blocks) {
    return options.bytes ? std::to_string(blocks * kBlockSize) : size_text(blocks * kBlockSize);
  };
  Table table({"LAYER", "OWN", "UNIQUE", "SHARED", "INHERITED", "RM FREES"}, "lrrrrr");
  for (auto const& layer : layers) {
    auto const sizes = sizes_of(layer);
    table.add({layer.name, size(sizes.own), size(sizes.exclusive), size(sizes.shared),
               size(sizes.inherited),
               layer.children == 0 && layer.images == 0 ? size(layer.own_blocks) : "-"});
  }
  table.print(io.out);
  io.out << '\n';
  Table store({"STORE", ""}, "lr");
  store.add({"superblocks", size(space.reserved)});
  store.add({"store tree", size(space.store_tree)});
  store.add({"layers", size(sums.layers)});
  if (space.layers != sums.layers)
    store.add({"layers being removed", size(space.layers - sums.layers)});
  store.add({"restore points", size(space.history)});
  store.add({"pending", size(space.pending)});
  store.add({"free", size(space.free)});
  store.add({"total", size(space.total)});
  store.print(io.out);
  if (sums.right)
    io.out << fmt::format("\nthe sum is right: {} blocks of {} bytes\n", space.total, kBlockSize);
}

Status run_df(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadOnly));
  LCFS_TRY_ASSIGN(auto const use, store->space_use());
  auto const& [space, layers] = use;
  auto const sums = sums_of(space, layers);
  if (options.json)
    print_as_json(*store, space, layers, sums, context.io);
  else
    print_as_text(options, space, layers, sums, context.io);
  if (sums.right) return Ok{};
  return Error::corrupt(fmt::format("the sum is wrong: the parts have {} blocks and the store {}; "
                                    "the layers own {}, but the space records {}",
                                    sums.parts, space.total, sums.layers, space.layers))
      .in(store->device().name());
}

}  // namespace

void add_df(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* cmd = app.add_subcommand("df", "Show how the store's space is used");
  add_store_option(*cmd, options->store);
  cmd->add_flag("--bytes", options->bytes, "Print sizes in bytes");
  cmd->add_flag("--json", options->json, "Print one JSON object per layer, then one for the store");
  cmd->footer("Example:\n  lcfs df --bytes");
  cmd->callback([options, &context] {
    if (auto done = run_df(*options, context); !done)
      context.exit = fail(context, "df", done.error());
  });
}

}  // namespace lcfs::cli
