// SPDX-License-Identifier: Apache-2.0
#include "tests/support/contents.h"

#include <sys/stat.h>

#include <set>
#include <stdexcept>
#include <vector>

#include "engine/store.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {
namespace {

std::string error_text(Error const& e) {
  return e.code == Errc::kFs ? std::to_string(e.sys) : kUnreadable;
}

void walk(Layer& layer, std::string const& name, Contents& out) {
  struct Todo {
    Inode inode;
    std::string path;
  };
  std::vector<Todo> todo{{layer.root(), ""}};
  while (!todo.empty()) {
    auto const [inode, path] = todo.back();
    todo.pop_back();
    if (path.size() > 10'000) throw std::runtime_error("directories lie inside themselves");
    auto& text = out[name + ":" + (path.empty() ? "/" : path)];
    auto const attr = layer.getattr(inode);
    if (!attr) {
      text = error_text(attr.error());
      continue;
    }
    auto const mode = attr->info.mode;
    text = std::to_string(mode) + " ";
    if (S_ISREG(mode)) {
      if (attr->info.size > (8u << 20)) continue;  // damage may claim anything
      std::string data(attr->info.size, '?');
      auto const r =
          layer.read(inode, 0, std::as_writable_bytes(std::span{data.data(), data.size()}));
      text = r ? text + data : kUnreadable;
    } else if (S_ISLNK(mode)) {
      auto const target = layer.readlink(inode);
      text = target ? text + *target : error_text(target.error());
    } else if (S_ISDIR(mode)) {
      auto const done = layer.readdir(inode, 0, [&, p = path](DirEntry const& e) {
        todo.push_back({e.inode, p + "/" + e.name});
        return todo.size() < 100'000;
      });
      if (!done) text = kUnreadable;
    }
    auto const names = layer.listxattr(inode);
    if (!names)
      text += std::string(" ") + kUnreadable;
    else
      for (auto const& x : std::set<std::string>(names->begin(), names->end())) {
        auto const value = layer.getxattr(inode, x);
        text += " " + x + "=" + (value ? *value : error_text(value.error()));
      }
  }
}

}  // namespace

std::unique_ptr<Device> copy_of(Device& device) {
  auto copy = make_memory_device(device.size());
  AlignedBuffer buffer(1u << 20);
  for (std::uint64_t at = 0; at < device.size(); at += buffer.size()) {
    auto const part =
        buffer.span().first(std::min<std::uint64_t>(buffer.size(), device.size() - at));
    must(device.read(at, part));
    must(copy->write(at, std::span<std::byte const>(part)));
  }
  return copy;
}

std::optional<Contents> contents_of(Device& device) {
  OpenOptions options;
  options.read_only = true;
  // The engine owns its device; this one stays the caller's.
  auto store = Store::open(
      std::make_unique<SharedDevice>(std::shared_ptr<Device>(&device, [](Device*) {})), options);
  if (!store) return std::nullopt;
  Contents out;
  std::vector<LayerInfo> layers;
  (void)(*store)
      ->for_each_layer([&](LayerInfo const& l) {
        layers.push_back(l);
        return true;
      })
      .ok();
  for (auto const& l : layers) {
    auto const layer = (*store)->layer(l.id);
    if (layer)
      walk(**layer, l.name, out);
    else
      out[l.name + ":/"] = kUnreadable;
  }
  (void)(*store)
      ->for_each_image([&](ImageDetails const& d) {
        for (auto const& n : d.names) out["image " + n];
        return true;
      })
      .ok();
  return out;
}

}  // namespace lcfs::test
