// SPDX-License-Identifier: Apache-2.0
// What differs between two layers, found by walking both whole trees: slow, and simple enough to be
// believed.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/diff.h"
#include "engine/layer.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

using Link = std::pair<Inode, std::string>;  // directory, name

struct File {
  InodeInfo info{};
  std::map<std::string, std::string> xattrs{};
  std::string content{};  // or target
  std::set<Link> links{};
  std::set<std::string> paths{};
};

struct Listing {
  Inode root = 0;
  std::map<Inode, File> files{};
  std::map<Link, Inode> entries{};
  std::map<std::string, Inode> paths{};
  [[nodiscard]] Inode child(Inode directory, std::string const& name) const {
    auto const it = entries.find({directory, name});
    return it == entries.end() ? 0 : it->second;
  }
};

// All that is in it, read through the engine.
Listing list(Layer& layer);

// One line a difference, as "R /old -> /new mode".
using Lines = std::vector<std::string>;
Lines lines_of(std::vector<DiffEntry> const& entries);

// Sorted.  The rules are those of engine/diff.h.
Lines naive_diff(Listing const& a, Listing const& b);

}  // namespace lcfs::test
