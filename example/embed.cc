// SPDX-License-Identifier: Apache-2.0
// lcfs as a library: imports an image into a store, lists its files, and prints one of them.
//   embed ARCHIVE FILE [STORE]     without STORE: a temporary one, in memory
// It compiles against an installed copy (cmake --install BUILD --component devel):
//   g++ -std=c++20 embed.cc $(pkg-config --cflags --libs lcfs) -o embed
#include <sys/stat.h>

#include <iostream>

#include "engine/store.h"
#include "importer/import.h"

using namespace lcfs;

// An error is a value.  LCFS_TRY returns it to the caller; LCFS_TRY_ASSIGN too, or else the result.
Result<std::unique_ptr<Store>> open_store(char const* path) {
  if (path != nullptr) {
    LCFS_TRY_ASSIGN(auto file, device::open_device(path, device::Access::kReadWrite));
    return Store::open(std::move(file), {});
  }
  auto memory = device::make_memory_device(1ull << 30);
  LCFS_TRY(Store::format(*memory, {}));
  return Store::open(std::move(memory), {});
}

// Prints the size and path of each file below `directory`; `path` is "" or ends in "/".
Status list(Layer& layer, Inode directory, std::string const& path) {
  std::vector<DirEntry> below;
  LCFS_TRY(layer.readdir_attrs(directory, 0, [&](DirEntry const& entry, Attr const& attr) {
    std::cout << attr.info.size << '\t' << path << entry.name << '\n';
    if (S_ISDIR(attr.info.mode)) below.push_back(entry);
    return true;  // the next one, please
  }));
  for (auto const& entry : below) LCFS_TRY(list(layer, entry.inode, path + entry.name + "/"));
  return {};
}

Status print(Layer& layer, std::string path) {
  Inode inode = layer.root();
  for (path += '/'; !path.empty(); path.erase(0, path.find('/') + 1)) {
    LCFS_TRY_ASSIGN(auto const attr, layer.lookup(inode, path.substr(0, path.find('/'))));
    inode = attr.inode;
  }
  std::vector<std::byte> buffer(1 << 20);
  for (std::uint64_t offset = 0;;) {
    LCFS_TRY_ASSIGN(std::size_t const bytes, layer.read(inode, offset, buffer));
    if (bytes == 0) return {};
    std::cout.write(reinterpret_cast<char const*>(buffer.data()), std::streamsize(bytes));
    offset += bytes;
  }
}

Status run(char const* archive, char const* file, char const* store_path) {
  LCFS_TRY_ASSIGN(auto const store, open_store(store_path));
  importer::ImportOptions options;
  options.source = archive;
  LCFS_TRY_ASSIGN(auto const report, importer::import_archive(*store, options));
  for (auto const& image : report.images) {
    LCFS_TRY_ASSIGN(auto const id, store->resolve_layer(digest_text(image.config_digest)));
    LCFS_TRY_ASSIGN(auto const layer, store->layer(id));
    LCFS_TRY(list(*layer, layer->root(), ""));
    LCFS_TRY(print(*layer, file));
  }
  return store->close();
}

int main(int argc, char** argv) {
  if (argc != 3 && argc != 4) {
    std::cerr << "usage: embed ARCHIVE FILE [STORE]\n";
    return 2;
  }
  auto const done = run(argv[1], argv[2], argc == 4 ? argv[3] : nullptr);
  if (!done) std::cerr << "embed: " << done.error().text() << '\n';
  return done ? 0 : 1;
}
