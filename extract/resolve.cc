// SPDX-License-Identifier: Apache-2.0
#include "extract/resolve.h"

#include <sys/stat.h>

#include <cerrno>
#include <string>

namespace lcfs::extract {
namespace {

// Removes the first component from `rest`.
std::string take_component(std::string& rest) {
  auto const start = rest.find_first_not_of('/');
  if (start == std::string::npos) {
    rest.clear();
    return {};
  }
  auto const end = rest.find('/', start);
  std::string component = rest.substr(start, end == std::string::npos ? end : end - start);
  rest.erase(0, end == std::string::npos ? rest.size() : end);
  return component;
}

Error at(Error error, std::string_view path) {
  if (error.path.empty()) error.path = path;
  return error;
}

}  // namespace

Result<Attr> resolve_path(Layer& layer, std::string_view path, LastLink last) {
  std::string rest{path};
  unsigned links = 0;
  auto root = layer.getattr(layer.root());
  if (!root) return at(std::move(root).error(), path);
  Attr here = *root;
  for (;;) {
    if (rest.empty()) return here;
    std::string const component = take_component(rest);
    if (!S_ISDIR(here.info.mode)) return at(fs_error(ENOTDIR), path);
    if (component.empty()) return here;  // "/" at the end
    if (component == ".") continue;
    if (component == ".." && here.inode == layer.root()) continue;
    auto found = layer.lookup(here.inode, component);
    if (!found) return at(std::move(found).error(), path);
    if (!S_ISLNK(found->info.mode) || (rest.empty() && last == LastLink::kKeep)) {
      here = *found;
      continue;
    }
    if (++links > kMaxLinks) return at(fs_error(ELOOP), path);
    auto target = layer.readlink(found->inode);
    if (!target) return at(std::move(target).error(), path);
    if (target->starts_with('/')) here = *root;
    rest = *target + (rest.empty() ? "" : "/" + rest);
  }
}

}  // namespace lcfs::extract
