// SPDX-License-Identifier: Apache-2.0
// Tests whether bytes are all zero.  Such blocks are never written.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>

namespace lcfs {

// Most data differs from zero in its first bytes; the rest is compared with itself, shifted, at the
// speed of memcmp.
[[nodiscard]] inline bool is_zero(std::span<std::byte const> data) {
  constexpr std::size_t kHead = 16;
  std::size_t const head = data.size() < kHead ? data.size() : kHead;
  for (std::size_t i = 0; i < head; ++i) {
    if (data[i] != std::byte{0}) return false;
  }
  return data.size() <= kHead ||
         std::memcmp(data.data(), data.data() + kHead, data.size() - kHead) == 0;
}

}  // namespace lcfs
