// SPDX-License-Identifier: Apache-2.0
// lcfs why: shows which layers changed a file, and which share it.
#include "verify/why.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <unordered_map>

#include "cli/commands.h"
#include "cli/file_text.h"
#include "cli/json.h"
#include "cli/print.h"
#include "cli/store_arg.h"
#include "cli/units.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::string store{}, layer{}, path{};
  bool json = false;
};

// The image that a layer came with, and the history entry that made the layer.
struct Origin {
  std::string image{}, line{};
};

// The n-th entry of `history` that has a layer (OCI image-spec, config.md); empty if there is none.
std::string history_line(std::string const& config, std::size_t n) {
  auto const parsed = Json::parse(config, nullptr, false);
  if (!parsed.is_object() || !parsed.contains("history") || !parsed["history"].is_array())
    return {};
  for (auto const& entry : parsed["history"]) {
    if (!entry.is_object()) continue;
    if (auto const it = entry.find("empty_layer");
        it != entry.end() && it->is_boolean() && it->get<bool>())
      continue;
    if (n-- != 0) continue;
    auto const by = entry.find("created_by");
    return by != entry.end() && by->is_string() ? by->get<std::string>() : std::string{};
  }
  return {};
}

Result<std::unordered_map<LayerId, Origin>> origins(Store const& store) {
  std::vector<ImageDetails> images;
  LCFS_TRY(store.for_each_image([&images](ImageDetails const& image) {
    images.push_back(image);
    return true;
  }));
  std::unordered_map<LayerId, Origin> out;
  for (auto const& image : images) {
    LCFS_TRY_ASSIGN(auto const layers, store.image_layers(image.info.id));
    auto const config = store.image_document(image.info.id, BlobKind::kConfig);
    for (std::size_t i = 0; i < layers.size(); ++i) {
      Origin origin{
          image.names.empty() ? digest_text(image.info.config_digest) : image.names.front(),
          config ? history_line(*config, i) : std::string{}};
      out.emplace(layers[i].id, std::move(origin));
    }
  }
  return out;
}

char const* word(verify::FileVersion::What what) {
  switch (what) {
    case verify::FileVersion::kAdded: return "added";
    case verify::FileVersion::kContent: return "content";
    case verify::FileVersion::kAttributes: return "attributes";
    case verify::FileVersion::kReplaced: return "replaced";
    case verify::FileVersion::kRemoved: break;
  }
  return "removed";
}

class Names {
 public:
  explicit Names(Store const& store) : store_(store) {}
  std::string of(LayerId id) const {
    auto const info = store_.layer_info(id);
    return info ? info->name : fmt::format("#{}", id);
  }

 private:
  Store const& store_;
};

void print_json_version(verify::FileVersion const& v, Origin const* origin, Names const& names,
                        Io const& io) {
  Json line{{"layer", v.layer.name}, {"change", word(v.what)}};
  line["image"] = origin != nullptr ? Json(origin->image) : Json();
  if (origin != nullptr && !origin->line.empty())
    put_bytes(line, "history", origin->line);
  else
    line["history"] = nullptr;
  if (v.what != verify::FileVersion::kRemoved) {
    line["inode"] = v.inode;
    line["mode"] = fmt::format("{:04o}", v.info.mode & 07777);
    line["size"] = v.info.size;
    line["mtime"] = timestamp_json(v.info.mtime);
  }
  line["runs"] = Json::array();
  for (auto const& r : v.runs)
    line["runs"].push_back({{"offset", r.file_offset},
                            {"device_offset", r.device_offset},
                            {"bytes", r.bytes},
                            {"owner", names.of(r.owner)}});
  line["shared_with"] = Json::array();
  for (auto const id : v.sharers) line["shared_with"].push_back(names.of(id));
  print_json(io.out, line);
}

void print_text_version(verify::FileVersion const& v, Origin const* origin, Names const& names,
                        Io const& io) {
  constexpr std::size_t kMostNames = 8;
  if (v.what == verify::FileVersion::kRemoved) {
    io.out << fmt::format("{}: removed\n", v.layer.name);
  } else {
    io.out << fmt::format("{}: {}, inode {}, mode {:04o}, {} bytes, modified {}\n", v.layer.name,
                          word(v.what), v.inode, v.info.mode & 07777, v.info.size,
                          timestamp_text(v.info.mtime));
  }
  if (origin != nullptr)
    io.out << fmt::format("    image {}{}{}\n", escape(origin->image),
                          origin->line.empty() ? "" : ": ", escape(origin->line));
  for (auto const& r : v.runs)
    io.out << fmt::format("    {}+{} at {:#x}, owned by {}\n", r.file_offset, r.bytes,
                          r.device_offset, names.of(r.owner));
  if (v.sharers.empty()) return;
  io.out << "    shared with";
  for (std::size_t i = 0; i < std::min(v.sharers.size(), kMostNames); ++i)
    io.out << (i == 0 ? " " : ", ") << names.of(v.sharers[i]);
  if (v.sharers.size() > kMostNames)
    io.out << fmt::format(" and {} more", v.sharers.size() - kMostNames);
  io.out << '\n';
}

Status run_why(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadOnly));
  LCFS_TRY_ASSIGN(auto const id, store->resolve_layer(options.layer));
  LCFS_TRY_ASSIGN(auto const versions, verify::file_versions(*store, id, options.path, true));
  if (versions.empty())
    return Error::not_found("no such path in the layer or in any layer below it").in(options.path);
  LCFS_TRY_ASSIGN(auto const images, origins(*store));
  Names const names(*store);
  for (auto const& v : versions) {
    auto const it = images.find(v.layer.id);
    auto const* origin = it == images.end() ? nullptr : &it->second;
    if (options.json)
      print_json_version(v, origin, names, context.io);
    else
      print_text_version(v, origin, names, context.io);
  }
  return Ok{};
}

}  // namespace

void add_why(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* cmd = app.add_subcommand("why", "Show which layers changed a file, and which share it");
  add_store_option(*cmd, options->store);
  cmd->add_flag("--json", options->json, "Print one JSON object per version");
  cmd->add_option("LAYER", options->layer, kLayerHelp)->required();
  cmd->add_option("PATH", options->path, "Path in the layer; a final symlink is not followed")
      ->required();
  cmd->footer("Example:\n  lcfs why debian:12 /etc/os-release");
  cmd->callback([options, &context] {
    if (auto done = run_why(*options, context); !done)
      context.exit = fail(context, "why", done.error());
  });
}

}  // namespace lcfs::cli
