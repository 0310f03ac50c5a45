// SPDX-License-Identifier: Apache-2.0
// Little-endian integers of alignment 1: every field of an on-disk structure is one of these.
// No implicit conversion: .get() and .set() at each use show the border between disk and memory.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace lcfs {

template <class T>
class LittleEndian {
  static_assert(std::is_integral_v<T>);

 public:
  LittleEndian() = default;
  explicit constexpr LittleEndian(T v) { set(v); }

  [[nodiscard]] constexpr T get() const { return swap(std::bit_cast<T>(bytes_)); }
  constexpr void set(T v) { bytes_ = std::bit_cast<std::array<std::uint8_t, sizeof(T)>>(swap(v)); }
  friend bool operator==(LittleEndian const&, LittleEndian const&) = default;

 private:
  static constexpr T swap(T v) {
    if constexpr (std::endian::native == std::endian::little || sizeof(T) == 1) {
      return v;
    } else {
      auto b = std::bit_cast<std::array<std::uint8_t, sizeof(T)>>(v);
      for (std::size_t i = 0; i < sizeof(T) / 2; ++i) std::swap(b[i], b[sizeof(T) - 1 - i]);
      return std::bit_cast<T>(b);
    }
  }
  std::array<std::uint8_t, sizeof(T)> bytes_{};
};

using le16 = LittleEndian<std::uint16_t>;
using le32 = LittleEndian<std::uint32_t>;
using le64 = LittleEndian<std::uint64_t>;
using les64 = LittleEndian<std::int64_t>;

static_assert(sizeof(le64) == 8 && alignof(le64) == 1 && std::is_trivially_copyable_v<le64>);

}  // namespace lcfs
