// SPDX-License-Identifier: Apache-2.0
#include "tests/support/layer_files.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "tests/support/support.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

std::vector<LayerInfo> all_layers(Store& store) {
  std::vector<LayerInfo> out;
  must(store.for_each_layer([&out](LayerInfo const& l) {
    out.push_back(l);
    return true;
  }));
  return out;
}

std::vector<DirEntry> entries_of(Layer& layer, Inode directory) {
  std::vector<DirEntry> out;
  must(layer.readdir(directory, 0, [&out](DirEntry const& e) {
    out.push_back(e);
    return true;
  }));
  return out;
}

std::string content(Layer& layer, Inode inode) {
  std::string data(must(layer.getattr(inode)).info.size, '?');
  must(layer.read(inode, 0, std::as_writable_bytes(std::span{data.data(), data.size()})));
  return data;
}

Files files_of(Layer& layer) {
  Files out;
  for (auto const& e : entries_of(layer, layer.root())) out[e.name] = content(layer, e.inode);
  return out;
}

Inode put(Layer& layer, std::string const& name, std::string const& data) {
  auto at = layer.lookup(layer.root(), name);
  Inode const inode =
      at ? at->inode : must(layer.create(layer.root(), name, {S_IFREG | 0644})).inode;
  must(layer.setattr(inode, {.size = 0}));
  REQUIRE(must(layer.write(inode, 0, bytes_of(data))) == data.size());
  return inode;
}

std::string some_data(std::mt19937_64& rng) {
  std::size_t const sizes[] = {0, 1, 100, 2048, 5000, 70000, 300000};
  std::string data(rng() % (sizes[rng() % std::size(sizes)] + 1), '\0');
  char const base = static_cast<char>('a' + rng() % 20);
  for (std::size_t i = 0; i < data.size(); ++i)
    data[i] = static_cast<char>(base + static_cast<char>((i / 1000) % 5));
  return data;
}

}  // namespace lcfs::test
