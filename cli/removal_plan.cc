// SPDX-License-Identifier: Apache-2.0
#include "cli/removal_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "cli/print.h"
#include "cli/units.h"

namespace lcfs::cli {
namespace {

// "a, b and 7 more".
std::string some_of(std::vector<std::string> const& names, std::uint64_t all) {
  auto text = fmt::format("{}", fmt::join(names, ", "));
  return all > names.size() ? fmt::format("{} and {} more", text, all - names.size()) : text;
}

}  // namespace

std::string dependents(Store const& store, LayerInfo const& layer) {
  constexpr std::size_t kShown = 5;
  std::vector<std::string> parts;
  if (layer.children != 0) {
    std::vector<std::string> names;
    (void)store
        .for_each_layer([&](LayerInfo const& other) {
          if (other.parent == layer.id) names.push_back(other.name);
          return names.size() < kShown;
        })
        .ok();
    parts.push_back(fmt::format("{} {}", layer.children == 1 ? "layer" : "layers",
                                some_of(names, layer.children)));
  }
  if (layer.images != 0) {
    std::vector<std::string> names;
    (void)store
        .for_each_image([&](ImageDetails const& image) {
          if (image.info.top_layer != layer.id) return true;
          names.push_back(image.names.empty() ? digest_text(image.info.config_digest).substr(0, 19)
                                              : escape(image.names.front()));
          return names.size() < kShown;
        })
        .ok();
    parts.push_back(
        fmt::format("{} {}", layer.images == 1 ? "image" : "images", some_of(names, layer.images)));
  }
  bool const one = layer.children + layer.images == 1;
  return fmt::format("{} {} based on it", fmt::join(parts, " and "), one ? "is" : "are");
}

Error explain_busy(Store const& store, LayerId id, Error error) {
  if (error.code != Errc::kBusy) return error;
  auto const layer = store.layer_info(id);
  if (!layer || layer->children + layer->images == 0) return error;
  error.message = fmt::format("{}; remove {} first, or use --lazy", dependents(store, *layer),
                              layer->children + layer->images == 1 ? "that" : "those");
  error.path = layer->name;
  error.sys = 0;
  return error;
}

Result<RemovalPlan::Known*> RemovalPlan::record(LayerId id) {
  auto const found = known_.find(id);
  if (found != known_.end()) return &found->second;
  LCFS_TRY_ASSIGN(auto info, store_.layer_info(id));
  LCFS_TRY_ASSIGN(auto const space, store_.layer_space(id));
  info.own_blocks = space.own;  // including data not written yet
  return &known_.emplace(id, Known{std::move(info), false}).first->second;
}

Status RemovalPlan::layer(LayerId id, Remove how) {
  LCFS_TRY_ASSIGN(auto* known, record(id));
  auto& info = known->info;
  if (known->gone) return Error::not_found("named twice; it would be removed already");
  if (info.children + info.images == 0) {
    LCFS_TRY(remove(id));
    return Ok{};
  }
  if (how != Remove::kLazy)
    return Error::busy(
        fmt::format("{} layers and {} images are based on it", info.children, info.images));
  if (!info.anonymous) lines_.push_back({"layer", info.name, 0, true});
  info.anonymous = true;
  return Ok{};
}

// Removes the layer, and ancestors without a name that have no other child or image.  Returns the
// first ancestor that stays.
Result<LayerId> RemovalPlan::remove(LayerId id) {
  while (id != 0) {
    LCFS_TRY_ASSIGN(auto* known, record(id));
    known->gone = true;
    lines_.push_back({"layer", known->info.name, known->info.own_blocks, false});
    LayerId const parent = known->info.parent;
    if (parent == 0) return LayerId{0};
    LCFS_TRY_ASSIGN(auto* below, record(parent));
    --below->info.children;
    id = parent;
    if (!below->info.anonymous || below->info.children + below->info.images != 0) return id;
  }
  return id;
}

Status RemovalPlan::image(ImageId id, std::string const& name) {
  LCFS_TRY_ASSIGN(auto const details, store_.image(id));
  auto& names = names_.try_emplace(id, details.names).first->second;
  if (!name.empty()) {
    std::erase(names, name);
    lines_.push_back({"name", name, 0, false});
    if (!names.empty()) return Ok{};
  }
  names.clear();
  lines_.push_back({"image", digest_text(details.info.config_digest), 0, false});
  bool top = true;
  for (LayerId at = details.info.top_layer; at != 0;) {
    LCFS_TRY_ASSIGN(auto* known, record(at));
    if (std::exchange(top, false)) --known->info.images;
    auto const& info = known->info;
    if (info.children + info.images != 0 || !(info.anonymous || named_by_chain(info))) break;
    LCFS_TRY_ASSIGN(at, remove(at));
  }
  return Ok{};
}

void RemovalPlan::print(bool json, std::ostream& out) const {
  std::uint64_t blocks = 0;
  Table table({"WHAT", "NAME", "FREES"}, "llr");
  for (auto const& line : lines_) {
    blocks += line.blocks;
    if (json) {
      Json object;
      put_bytes(object, line.what, line.name);
      object["freed_bytes"] = line.blocks * kBlockSize;
      object["later"] = line.later;
      print_json(out, object);
    }
    table.add(
        {line.what, escape(line.name), line.later ? "later" : size_text(line.blocks * kBlockSize)});
  }
  if (json) return;
  table.print(out);
  out << fmt::format("total {} ({} bytes); nothing was removed\n", size_text(blocks * kBlockSize),
                     blocks * kBlockSize);
}

}  // namespace lcfs::cli
