// SPDX-License-Identifier: Apache-2.0
// lcfs cat: prints files of a layer.
#include <sys/stat.h>

#include <cerrno>

#include "cli/layer_paths.h"
#include "cli/print.h"
#include "extract/resolve.h"

namespace lcfs::cli {
namespace {

Status copy_out(Layer& layer, std::string const& path, std::vector<std::byte>& buffer,
                std::ostream& out) {
  LCFS_TRY_ASSIGN(auto const attr, extract::resolve_path(layer, path, extract::LastLink::kFollow));
  if (S_ISDIR(attr.info.mode)) return fs_error(EISDIR);
  if (!S_ISREG(attr.info.mode)) return Error::invalid("not a regular file");
  for (std::uint64_t at = 0; at < attr.info.size && out;) {
    LCFS_TRY_ASSIGN(auto const got, layer.read(attr.inode, at, buffer));
    if (got == 0) break;
    out.write(reinterpret_cast<char const*>(buffer.data()), static_cast<std::streamsize>(got));
    at += got;
  }
  return Ok{};
}

Status run_cat(LayerPaths const& options, Context& context) {
  std::vector<std::byte> buffer(1u << 20);
  return for_each_path(options, context, "cat", [&](Layer& layer, std::string const& path) {
    return copy_out(layer, path, buffer, context.io.out);
  });
}

}  // namespace

void add_cat(CLI::App& app, Context& context) {
  auto options = std::make_shared<LayerPaths>();
  auto* cmd = app.add_subcommand("cat", "Print files of a layer");
  add_layer_paths(*cmd, *options, "Paths in the layer; symlinks are followed inside it")
      ->required();
  cmd->footer("Example:\n  lcfs cat debian:12 /etc/os-release");
  cmd->callback([options, &context] {
    if (auto done = run_cat(*options, context); !done)
      context.exit = fail(context, "cat", done.error());
  });
}

}  // namespace lcfs::cli
