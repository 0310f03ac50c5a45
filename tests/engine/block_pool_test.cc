// SPDX-License-Identifier: Apache-2.0
#include "engine/layer/block_pool.h"

#include <doctest/doctest.h>

#include <cstring>
#include <random>
#include <set>
#include <thread>
#include <vector>

using namespace lcfs;

TEST_CASE("blocks are aligned, never handed out twice, and keep what is written to them") {
  std::mt19937 rng(2);
  std::vector<std::pair<std::byte*, int>> held;
  std::set<std::byte*> there;
  for (int i = 0; i < 20'000; ++i) {
    bool const growing = i % 4000 < 2500;
    if (held.empty() || rng() % 10 < (growing ? 7u : 3u)) {
      auto* const block = allocate_block();
      CHECK(reinterpret_cast<std::uintptr_t>(block) % kBlockSize == 0);
      CHECK(there.insert(block).second);
      std::memset(block, i % 251, kBlockSize);
      held.emplace_back(block, i % 251);
    } else {
      std::size_t const at = rng() % held.size();
      auto const kept = held[at];
      CHECK(kept.first[0] == std::byte(kept.second));
      CHECK(kept.first[kBlockSize - 1] == std::byte(kept.second));
      there.erase(kept.first);
      free_block(kept.first);
      held[at] = held.back();
      held.pop_back();
    }
  }
  for (auto const& kept : held) free_block(kept.first);
}

TEST_CASE("blocks may be freed by another thread than the one that took them") {
  std::vector<Block> blocks(500);
  for (auto& block : blocks) std::memset(block.data(), 7, Block::size());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&blocks, t] {
      for (std::size_t i = static_cast<std::size_t>(t); i < blocks.size(); i += 4) {
        Block fresh;
        std::memset(fresh.data(), t, Block::size());
        blocks[i] = std::move(fresh);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (std::size_t i = 0; i < blocks.size(); ++i) CHECK(blocks[i].data()[100] == std::byte(i % 4));
}
