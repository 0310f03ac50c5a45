// SPDX-License-Identifier: Apache-2.0
// lcfs cat: a file's bytes to the standard output.
#include <sys/stat.h>

#include <cerrno>

#include "cli/commands.h"
#include "cli/print.h"
#include "cli/store_arg.h"
#include "extract/resolve.h"

namespace lcfs::cli {
namespace {

struct Options {
  std::uint64_t at = 0;
  std::string store{}, layer{};
  std::vector<std::string> paths{};
};

Status copy_out(Layer& layer, std::string const& path, std::vector<std::byte>& buffer,
                std::ostream& out) {
  LCFS_TRY_ASSIGN(auto const attr, resolve_path(layer, path, LastLink::kFollow));
  if (S_ISDIR(attr.info.mode)) return fs_error(EISDIR);
  if (!S_ISREG(attr.info.mode))
    return Error{Errc::kInvalid, "is no regular file", 0, {}, kNoOffset};
  for (std::uint64_t at = 0; at < attr.info.size && out;) {
    LCFS_TRY_ASSIGN(auto const got, layer.read(attr.inode, at, buffer));
    if (got == 0) break;
    out.write(reinterpret_cast<char const*>(buffer.data()), static_cast<std::streamsize>(got));
    at += got;
  }
  return Ok{};
}

Status run_cat(Options const& options, Context& context) {
  LCFS_TRY_ASSIGN(auto store, open_store(context, options.store, Access::kReadOnly, options.at));
  LCFS_TRY_ASSIGN(auto const id, store->resolve_layer(options.layer));
  LCFS_TRY_ASSIGN(auto const layer, store->layer(id));
  std::vector<std::byte> buffer(1u << 20);
  for (auto const& path : options.paths) {
    auto done = copy_out(*layer, path, buffer, context.io.out);
    if (done) continue;
    if (done.error().path.empty()) done.error().path = path;
    context.exit = fail(context, "cat", done.error());
  }
  return Ok{};
}

}  // namespace

void add_cat(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  auto* cmd = app.add_subcommand("cat", "Print files of a layer");
  add_store_option(*cmd, options->store);
  add_at_option(*cmd, options->at);
  cmd->add_option("LAYER", options->layer, "Layer, image, digest or unique prefix")->required();
  cmd->add_option("PATH", options->paths, "Paths in the layer; symlinks are followed inside it")
      ->required();
  cmd->footer("Example:\n  lcfs cat debian:12 /etc/os-release");
  cmd->callback([options, &context] {
    if (auto done = run_cat(*options, context); !done)
      context.exit = fail(context, "cat", done.error());
  });
}

}  // namespace lcfs::cli
