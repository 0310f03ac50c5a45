// SPDX-License-Identifier: Apache-2.0
// Layers that share most of their trees, and ways to break them: for tests that try thousands of
// broken stores.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "format/hash.h"
#include "tests/support/raw_store.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

inline std::string noise(std::mt19937_64& rng, std::size_t size) {
  std::string s(size, '\0');
  for (auto& c : s) c = static_cast<char>(rng());
  return s;
}

// Breaks something, in one of the ways in which trees break.
inline void damage(Records& records, std::mt19937_64& rng) {
  auto const any = [&] {
    return std::next(records.begin(), static_cast<std::ptrdiff_t>(rng() % records.size()));
  };
  auto const it = any();
  switch (rng() % 8) {
    case 0: records.erase(it); break;
    case 1:
    case 2:
      if (!it->second.empty())
        it->second[rng() % it->second.size()] =
            static_cast<char>(it->second[0] + 1 + static_cast<char>(rng() % 4));
      break;
    case 3: {  // a copy at another key
      Key key = it->first;
      key.offset += rng() % 2 ? 1 : 4096;
      records.emplace(key, it->second);
      break;
    }
    case 4: {  // another inode's
      Key key = it->first;
      key.inode = any()->first.inode;
      records.emplace(key, it->second);
      break;
    }
    case 5: {
      auto const other = any();
      if (other->first.kind == it->first.kind) std::swap(other->second, it->second);
      break;
    }
    case 6: records.emplace(Key{0, kOrphan, any()->first.inode}, ""); break;
    default: {  // a name too much, with all that belongs to it, or without
      auto const d = parse_dirent(it->first, std::as_bytes(std::span{it->second}));
      if (it->first.kind == kDirent && d) {
        auto const from = any()->first.inode;
        records[{from, kDirent, it->first.offset}] = it->second;
        if (rng() % 2) {
          std::array<std::uint8_t, 16> seed{};
          seed.fill(7);
          records[{d->inode, kParent, parent_key(seed, from, d->name)}] =
              encode_parent({from, d->name});
        }
      }
    }
  }
}

// A base, a child that changed a few things in all ways, a grandchild, and a sibling.
struct Family {
  RawStore s{kMinStoreBlocks, 8};
  std::uint64_t base = 0, child = 0, grandchild = 0;
  std::vector<std::uint64_t> dirs, files;

  // broken_in_base: so many records of the base are damaged; all layers above inherit that.
  explicit Family(std::mt19937_64& rng, std::uint64_t broken_in_base = 0) {
    base = s.add_layer("base", 0);
    dirs.push_back(s.root(base));
    for (int i = 0; i < 6; ++i)
      dirs.push_back(s.dir(base, dirs[rng() % dirs.size()], "d" + std::to_string(i)));
    for (int i = 0; i < 40; ++i) {
      auto const size = i % 4 == 0 ? 5000 + rng() % 20000 : rng() % 100;
      files.push_back(
          s.file(base, dirs[rng() % dirs.size()], "f" + std::to_string(i), noise(rng, size)));
      if (i % 5 == 0)
        s.link(base, files.back(), dirs[rng() % dirs.size()], "l" + std::to_string(i));
      if (i % 7 == 0) s.xattr(base, files.back(), "user.x", noise(rng, i % 2 ? 10 : 5000));
    }
    s.symlink(base, dirs[1], "link", "target");
    s.orphan(base);
    for (std::uint64_t n = 0; n < broken_in_base; ++n) damage(s.layer(base).records, rng);
    s.seal_layer(base);
    child = s.add_layer("child", base);
    change(child, rng, "c");
    s.orphan(child);
  }
  void change(std::uint64_t layer, std::mt19937_64& rng, std::string const& prefix) {
    for (int i = 0; i < 3; ++i) {
      auto const inode = s.file(layer, dirs[rng() % dirs.size()], prefix + std::to_string(i),
                                noise(rng, rng() % 9000));
      if (rng() % 2)
        s.link(layer, inode, dirs[rng() % dirs.size()], prefix + "l" + std::to_string(i));
    }
    auto const d = s.dir(layer, dirs[rng() % dirs.size()], prefix + "dir");
    s.file(layer, d, "inside", "x");
    auto const old = files[rng() % files.size()];
    auto info = s.inode(layer, old);
    info.mtime.sec = 77;
    s.set_inode(layer, old, info);
    s.link(layer, files[rng() % files.size()], d, prefix + "more");
    s.xattr(layer, files[rng() % files.size()], "user." + prefix, "y");
  }
  void finish(std::mt19937_64& rng) {
    s.seal_layer(child);
    grandchild = s.add_layer("grandchild", child);
    change(grandchild, rng, "g");
    s.seal_layer(grandchild);
    s.seal();
    s.write();
  }
};

}  // namespace lcfs::test
