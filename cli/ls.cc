// SPDX-License-Identifier: Apache-2.0
// lcfs ls: lists directories of a layer, sorted by the bytes of their names.
#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>

#include "cli/file_text.h"
#include "cli/layer_paths.h"
#include "cli/print.h"
#include "cli/units.h"
#include "extract/resolve.h"

namespace lcfs::cli {
namespace {

struct Options {
  LayerPaths where{};
  bool all = false, json = false, directory = false, long_form = false, recursive = false;
};

struct Directory {
  Inode inode = 0;
  std::string path{};
};

std::string join(std::string const& directory, std::string const& name) {
  return directory.ends_with('/') ? directory + name : directory + "/" + name;
}

class Lister {
 public:
  Lister(Layer& layer, Options const& options, Context& context)
      : layer_(layer), options_(options), context_(context) {}

  Status list(std::string const& path) {
    LCFS_TRY_ASSIGN(auto attr, extract::resolve_path(layer_, path, extract::LastLink::kKeep));
    if (S_ISLNK(attr.info.mode) && !options_.long_form && !options_.json &&
        !options_.directory) {  // as ls(1) does
      auto const there = extract::resolve_path(layer_, path, extract::LastLink::kFollow);
      if (there && S_ISDIR(there->info.mode)) attr = *there;
    }
    if (!S_ISDIR(attr.info.mode) || options_.directory) {
      Table table = long_table();
      LCFS_TRY(show(table, path, path, attr.inode));
      return print(table);
    }
    std::vector<Directory> next{{attr.inode, path}};  // the last one is listed next
    while (!next.empty()) {
      Directory const here = std::move(next.back());
      next.pop_back();
      if (auto done = list_directory(here, next); !done) {
        if (!options_.recursive) return done;
        done.error().path = here.path;
        context_.exit = fail(context_, "ls", done.error());
      }
    }
    return Ok{};
  }

 private:
  static Table long_table() { return Table({}, "lrrrrrl"); }

  Status print(Table const& table) {
    if (options_.long_form && !options_.json) table.print(context_.io.out);
    return Ok{};
  }

  Status list_directory(Directory const& here, std::vector<Directory>& next) {
    std::vector<DirEntry> entries;
    if (options_.all) {
      LCFS_TRY_ASSIGN(auto const parent, layer_.parent_of(here.inode));
      entries.push_back({here.inode, DT_DIR, ".", 0});
      entries.push_back({parent, DT_DIR, "..", 0});
    }
    LCFS_TRY(layer_.readdir(here.inode, 0, [&entries](DirEntry const& entry) {
      entries.push_back(entry);
      return true;
    }));
    std::sort(entries.begin(), entries.end(),
              [](auto const& a, auto const& b) { return a.name < b.name; });
    if (options_.recursive && !options_.json) {
      context_.io.out << (first_ ? "" : "\n") << escape(here.path) << ":\n";
      first_ = false;
    }
    Table table = long_table();
    for (auto const& entry : entries)
      LCFS_TRY(show(table, entry.name, join(here.path, entry.name), entry.inode));
    LCFS_TRY(print(table));
    if (!options_.recursive) return Ok{};
    for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry)
      if (entry->type == DT_DIR && entry->name != "." && entry->name != "..")
        next.push_back({entry->inode, join(here.path, entry->name)});
    return Ok{};
  }

  Status show(Table& table, std::string const& name, std::string const& path, Inode inode) {
    if (!options_.json && !options_.long_form) {
      context_.io.out << escape(name) << '\n';
      return Ok{};
    }
    LCFS_TRY_ASSIGN(auto const attr, layer_.getattr(inode));
    if (options_.json) {
      LCFS_TRY_ASSIGN(auto const object, file_json(layer_, path, attr));
      print_json(context_.io.out, object);
      return Ok{};
    }
    auto const& info = attr.info;
    auto text = escape(name);
    if (S_ISLNK(info.mode)) {
      LCFS_TRY_ASSIGN(auto const target, layer_.readlink(inode));
      text += " -> " + escape(target);
    }
    bool const device = S_ISCHR(info.mode) || S_ISBLK(info.mode);
    table.add({mode_text(info.mode), std::to_string(info.nlink), std::to_string(info.uid),
               std::to_string(info.gid), device ? rdev_text(info.rdev) : std::to_string(info.size),
               timestamp_text(info.mtime).substr(0, 19), text});
    return Ok{};
  }

  Layer& layer_;
  Options const& options_;
  Context& context_;
  bool first_ = true;
};

Status run_ls(Options const& options, Context& context) {
  auto where = options.where;
  if (where.paths.empty()) where.paths.emplace_back("/");
  std::optional<Lister> lister;  // made for the first path, once the layer is open
  return for_each_path(where, context, "ls", [&](Layer& layer, std::string const& path) {
    if (!lister) lister.emplace(layer, options, context);
    return lister->list(path);
  });
}

}  // namespace

void add_ls(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* cmd = app.add_subcommand("ls", "List files of a layer");
  add_layer_paths(*cmd, options->where, "Paths in the layer (default: its root directory)");
  cmd->add_flag("-a,--all", options->all, "Include . and .. (other dot files are always listed)");
  cmd->add_flag("-d,--directory", options->directory,
                "List directories themselves, not their contents");
  cmd->add_flag("-l,--long", options->long_form,
                "Show mode, links, uid, gid, size or device, mtime, link target");
  cmd->add_flag("-R,--recursive", options->recursive, "List subdirectories too");
  cmd->add_flag("--json", options->json, "Print one JSON object per file");
  cmd->footer("Example:\n  lcfs ls -l debian:12 /etc");
  cmd->callback([options, &context] {
    if (auto done = run_ls(*options, context); !done)
      context.exit = fail(context, "ls", done.error());
  });
}

}  // namespace lcfs::cli
