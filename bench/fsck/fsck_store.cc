// SPDX-License-Identifier: Apache-2.0
// Makes a store with many inodes in many layers, for bench/fsck/bench.
//
//   fsck_store STORE [--inodes N] [--layers N] [--seed N]
//       makes STORE; without options 1,000,000 inodes in 100 layers
//
// Layers are a chain, each a clone of the one before that adds its share of the inodes; the top
// layer, "top", has them all.  A layer adds packages as distributions have them: usr/lib/NAME with
// some subdirectories (3 to 30 files each), usr/share/doc/NAME, two files in var/lib/dpkg/info,
// which so becomes one large directory, and now and then a symlink or a hard link.  It also appends
// to var/lib/dpkg/status and brings another version of one in 500 of the packages below it: all
// files rewritten.  Of the files 1/8 are empty, 4/8 hold up to 2 KiB (inline), 2/8 one or two
// blocks, 1/8 three to six.  Equal arguments, equal tree.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "device/device.h"
#include "engine/store.h"

using namespace lcfs;

namespace {

template <class T>
T must(Result<T> r) {
  if (r) return *std::move(r);
  fmt::print(stderr, "fsck_store: {}\n", r.error().text());
  std::exit(1);
}
void must(Status const& r) {
  if (r) return;
  fmt::print(stderr, "fsck_store: {}\n", r.error().text());
  std::exit(1);
}

class Maker {
 public:
  Maker(Store& store, std::uint64_t seed) : store_(store), random_(seed), bytes_(1u << 20) {
    for (auto& b : bytes_) b = static_cast<std::byte>(random_());
  }

  // The base: an empty structure that everything else goes into.
  void begin(LayerId id) {
    layer_ = must(store_.layer(id));
    auto const usr = directory(layer_->root(), "usr");
    lib_ = directory(usr, "lib");
    doc_ = directory(directory(usr, "share"), "doc");
    auto const dpkg = directory(directory(directory(layer_->root(), "var"), "lib"), "dpkg");
    info_ = directory(dpkg, "info");
    status_ = file(dpkg, "status", 0);
  }
  void go_on_in(LayerId id) { layer_ = must(store_.layer(id)); }

  void add_until(std::uint64_t inodes) {
    while (made_ < inodes) package(inodes);
    auto const old = must(layer_->getattr(status_)).info.size;
    must(layer_->write(status_, old, std::span{bytes_}.first(4000)));
    for (std::size_t n = below_ / 500; n > 0; --n) {
      for (Inode const inode : files_[below(below_)])
        must(layer_->write(inode, 0, std::span{bytes_}.subspan(below(4096), 700)));
    }
    below_ = files_.size();
  }
  [[nodiscard]] std::uint64_t made() const { return made_; }

 private:
  std::uint64_t below(std::uint64_t n) { return random_() % n; }

  Inode directory(Inode in, std::string const& name) {
    ++made_;
    return must(layer_->create(in, name, {S_IFDIR | 0755})).inode;
  }
  Inode file(Inode in, std::string const& name, std::uint64_t size) {
    ++made_;
    auto const inode = must(layer_->create(in, name, {S_IFREG | 0644})).inode;
    if (size != 0)
      must(layer_->write(inode, 0, std::span{bytes_}.subspan(below(bytes_.size() - size), size)));
    return inode;
  }
  std::uint64_t some_size() {
    auto const kind = below(8);
    if (kind == 0) return 0;
    if (kind < 5) return 1 + below(2048);
    return kind < 7 ? 2049 + below(6143) : 8193 + below(16384);
  }

  void package(std::uint64_t until) {
    auto const name = fmt::format("package{}", ++packages_);
    auto const home = directory(lib_, name);
    auto& own = files_.emplace_back();
    auto const parts = 1 + below(6);
    for (std::uint64_t p = 0; p < parts && made_ < until; ++p) {
      auto const in = p == 0 ? home : directory(home, fmt::format("part{}", p));
      auto const files = 3 + below(28);
      for (std::uint64_t f = 0; f < files && made_ < until; ++f) {
        own.push_back(file(in, fmt::format("module_{}_{}.py", p, f), some_size()));
        if (below(50) == 0) must(layer_->link(own.back(), in, fmt::format("same_{}", f)));
      }
      if (below(4) == 0) {
        ++made_;
        must(layer_->symlink(in, "current", "module_0_0.py", {S_IFLNK | 0777}));
      }
    }
    if (made_ + 4 > until) return;
    auto const doc = directory(doc_, name);
    own.push_back(file(doc, "copyright", 500 + below(1500)));
    own.push_back(file(info_, name + ".list", some_size()));
    own.push_back(file(info_, name + ".md5sums", some_size()));
  }

  Store& store_;
  std::mt19937_64 random_;
  std::vector<std::byte> bytes_;
  std::shared_ptr<Layer> layer_{};
  Inode lib_ = 0, doc_ = 0, info_ = 0, status_ = 0;
  std::vector<std::vector<Inode>> files_{};  // by package
  std::size_t below_ = 0;                    // packages of the layers below
  std::uint64_t packages_ = 0, made_ = 1;
};

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t inodes = 1'000'000, layers = 100, seed = 1;
  for (int i = 2; i + 1 < argc; i += 2) {
    auto const value = std::strtoull(argv[i + 1], nullptr, 10);
    if (std::string_view(argv[i]) == "--inodes") inodes = value;
    if (std::string_view(argv[i]) == "--layers") layers = value;
    if (std::string_view(argv[i]) == "--seed") seed = value;
  }
  if (argc < 2 || argc % 2 != 0 || layers == 0 || inodes < 20 * layers) {
    fmt::print(stderr, "usage: fsck_store STORE [--inodes N] [--layers N] [--seed N]\n");
    return 2;
  }
  auto device = must(create_file_device(argv[1], (1ull << 30) + inodes * 16384));
  must(Store::format(*device, {}));
  auto const store = must(Store::open(std::move(device), {}));
  must(store->set_keep(0));  // what is measured are layers, not what was there before them
  LayerId last = 0;
  {
    Maker maker(*store, seed);
    for (std::uint64_t l = 1; l <= layers; ++l) {
      auto const name = l == layers ? std::string{"top"} : fmt::format("layer{}", l);
      last = must(store->create_layer(name, last));
      if (l == 1)
        maker.begin(last);
      else
        maker.go_on_in(last);
      maker.add_until(inodes * l / layers);
    }
    fmt::print("{} inodes in {} layers\n", maker.made(), layers);
  }
  must(store->freeze_layer(last));
  must(store->close());
}
