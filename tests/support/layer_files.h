// SPDX-License-Identifier: Apache-2.0
// Layers as tests of the engine use them: some files in the root, written and read back whole.
#pragma once

#include <map>
#include <random>
#include <string>
#include <vector>

#include "engine/store.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

using Files = std::map<std::string, std::string>;

std::vector<LayerInfo> all_layers(Store& store);
std::vector<DirEntry> entries_of(Layer& layer, Inode directory);
std::string content(Layer& layer, Inode inode);
// Of the root alone, all of which are files.
Files files_of(Layer& layer);

// In the root: made, or written anew.
Inode put(Layer& layer, std::string const& name, std::string const& data);

// Up to 300,000 bytes, of any of the sizes at which the engine stores files in different ways.
std::string some_data(std::mt19937_64& rng);

}  // namespace lcfs::test
