// SPDX-License-Identifier: Apache-2.0
// What a store gives back to the host's file system.
#include "engine/space/space_map.h"

#include <doctest/doctest.h>

#include <utility>
#include <vector>

#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

// A sparse file, as far as the space map sees.
class Sparse final : public SharedDevice {
 public:
  using SharedDevice::SharedDevice;
  [[nodiscard]] bool always_backed() const override { return false; }
  Status release(std::uint64_t offset, std::uint64_t length) override {
    released.push_back({offset / kBlockSize, length / kBlockSize});
    return {};
  }
  std::vector<std::pair<std::uint64_t, std::uint64_t>> released{};
};

}  // namespace

TEST_CASE(
    "trim: free runs go back to the host, the largest first, and short ones are not worth a hole") {
  constexpr std::uint64_t kBlocks = 8192;
  Sparse device(make_memory_device(kBlocks * kBlockSize));
  // Free: every second block of [100, 2100), [2100, 2116), [3000, 3100), [4000, 8192).
  std::vector<Extent> used{{kReservedBlocks, 100 - kReservedBlocks}};
  for (std::uint64_t b = 100; b < 2100; b += 2) used.push_back({b, 1});
  used.push_back({2099, 1});
  used.push_back({2116, 3000 - 2116});
  used.push_back({3100, 4000 - 3100});
  normalize(used);
  SpaceMap space(device, kBlocks, used);
  space.trim();
  CHECK(device.released ==
        decltype(device.released){{4000, kBlocks - 4000}, {3000, 100}, {2100, 16}});
}
