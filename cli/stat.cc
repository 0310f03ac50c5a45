// SPDX-License-Identifier: Apache-2.0
// lcfs stat: shows file metadata.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

#include "cli/file_text.h"
#include "cli/layer_paths.h"
#include "cli/print.h"
#include "cli/units.h"
#include "extract/resolve.h"

namespace lcfs::cli {
namespace {

struct Options {
  LayerPaths where{};
  bool json = false, runs = false;
};

using XattrList = std::vector<std::pair<std::string, std::string>>;

Result<XattrList> xattrs_of(Layer& layer, Inode inode) {
  LCFS_TRY_ASSIGN(auto names, layer.listxattr(inode));
  std::sort(names.begin(), names.end());
  XattrList list;
  for (auto& name : names) {
    LCFS_TRY_ASSIGN(auto value, layer.getxattr(inode, name));
    list.emplace_back(std::move(name), std::move(value));
  }
  return list;
}

std::string hex(std::string_view bytes) {
  std::string text;
  for (char const c : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return text;
}

Status print_as_json(Layer& layer, std::string const& path, Attr const& attr,
                     XattrList const& xattrs, std::vector<Layer::Run> const& runs, Io const& io) {
  LCFS_TRY_ASSIGN(auto object, file_json(layer, path, attr));
  object["atime"] = timestamp_json(attr.info.atime);
  object["ctime"] = timestamp_json(attr.info.ctime);
  object["btime"] = timestamp_json(attr.info.btime);
  object["xattrs"] = Json::array();
  for (auto const& [name, value] : xattrs) {
    Json xattr;
    put_bytes(xattr, "name", name);
    xattr["value_hex"] = hex(value);
    object["xattrs"].push_back(std::move(xattr));
  }
  object["runs"] = Json::array();
  for (auto const& run : runs)
    object["runs"].push_back(
        {{"offset", run.file_offset}, {"device_offset", run.device_offset}, {"bytes", run.length}});
  print_json(io.out, object);
  return Ok{};
}

Status print_as_text(Layer& layer, std::string const& path, Attr const& attr,
                     XattrList const& xattrs, std::vector<Layer::Run> const& runs, Io const& io) {
  auto const& info = attr.info;
  auto const row = [&io](char const* key, std::string const& value) {
    io.out << fmt::format("{:<8}{}\n", key, value);
  };
  row("path", escape(path));
  row("type", type_text(info.mode));
  if (S_ISLNK(info.mode)) {
    LCFS_TRY_ASSIGN(auto const target, layer.readlink(attr.inode));
    row("target", escape(target));
  }
  if (S_ISCHR(info.mode) || S_ISBLK(info.mode)) row("device", rdev_text(info.rdev));
  row("mode", fmt::format("{:04o} {}", info.mode & 07777, mode_text(info.mode)));
  row("inode", std::to_string(attr.inode));
  row("links", std::to_string(info.nlink));
  row("uid", std::to_string(info.uid));
  row("gid", std::to_string(info.gid));
  row("size", std::to_string(info.size));
  row("blocks", std::to_string(info.blocks));
  row("atime", timestamp_text(info.atime));
  row("mtime", timestamp_text(info.mtime));
  row("ctime", timestamp_text(info.ctime));
  row("btime", timestamp_text(info.btime));
  for (auto const& [name, value] : xattrs)
    row("xattr", fmt::format("{}=0x{}", escape(name), hex(value)));
  for (auto const& run : runs)
    row("run", fmt::format("{} bytes from offset {} at {:#x} in the store", run.length,
                           run.file_offset, run.device_offset));
  return Ok{};
}

Status show(Layer& layer, std::string const& path, Options const& options, Io const& io) {
  LCFS_TRY_ASSIGN(auto const attr, extract::resolve_path(layer, path, extract::LastLink::kKeep));
  LCFS_TRY_ASSIGN(auto const xattrs, xattrs_of(layer, attr.inode));
  std::vector<Layer::Run> runs;
  if (options.runs && S_ISREG(attr.info.mode)) {
    LCFS_TRY_ASSIGN(runs, layer.runs(attr.inode));
  }
  auto const print = options.json ? print_as_json : print_as_text;
  return print(layer, path, attr, xattrs, runs, io);
}

Status run_stat(Options const& options, Context& context) {
  return for_each_path(options.where, context, "stat", [&](Layer& layer, std::string const& path) {
    return show(layer, path, options, context.io);
  });
}

}  // namespace

void add_stat(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* cmd = app.add_subcommand("stat", "Show file metadata");
  add_layer_paths(*cmd, options->where, "Paths in the layer; a final symlink is not followed")
      ->required();
  cmd->add_flag("--runs", options->runs, "Show where the file's data is in the store");
  cmd->add_flag("--json", options->json, "Print one JSON object per file");
  cmd->footer("Example:\n  lcfs stat --runs debian:12 /bin/bash");
  cmd->callback([options, &context] {
    if (auto done = run_stat(*options, context); !done)
      context.exit = fail(context, "stat", done.error());
  });
}

}  // namespace lcfs::cli
