// SPDX-License-Identifier: Apache-2.0
#include "format/hash.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "base/upper_halves.h"

namespace lcfs::format {

std::uint32_t crc32c(std::span<std::byte const> data) {
  // ISA-L's CRC takes an int length; its "iscsi" polynomial is CRC-32C, without the two inversions.
  std::uint32_t crc = 0xffffffffu;
  while (!data.empty()) {
    auto const n = std::min<std::size_t>(data.size(), std::size_t{1} << 30);
    crc = crc32_iscsi(reinterpret_cast<unsigned char*>(const_cast<std::byte*>(data.data())),
                      static_cast<int>(n), crc);
    data = data.subspan(n);
  }
  clear_upper_halves();
  return ~crc;
}

namespace {

std::uint64_t load64(std::byte const* p) {
  le64 v;
  std::memcpy(&v, p, sizeof v);
  return v.get();
}

class SipState {
 public:
  explicit SipState(std::array<std::uint8_t, 16> const& seed) {
    auto const* p = reinterpret_cast<std::byte const*>(seed.data());
    std::uint64_t const k0 = load64(p), k1 = load64(p + 8);
    v0_ = k0 ^ 0x736f6d6570736575ull;
    v1_ = k1 ^ 0x646f72616e646f6dull;
    v2_ = k0 ^ 0x6c7967656e657261ull;
    v3_ = k1 ^ 0x7465646279746573ull;
  }
  void word(std::uint64_t m) {
    v3_ ^= m;
    round();
    round();
    v0_ ^= m;
  }
  std::uint64_t finish() {
    v2_ ^= 0xff;
    for (int i = 0; i < 4; ++i) round();
    return v0_ ^ v1_ ^ v2_ ^ v3_;
  }

 private:
  void round() {
    v0_ += v1_;
    v1_ = std::rotl(v1_, 13);
    v1_ ^= v0_;
    v0_ = std::rotl(v0_, 32);
    v2_ += v3_;
    v3_ = std::rotl(v3_, 16);
    v3_ ^= v2_;
    v0_ += v3_;
    v3_ = std::rotl(v3_, 21);
    v3_ ^= v0_;
    v2_ += v1_;
    v1_ = std::rotl(v1_, 17);
    v1_ ^= v2_;
    v2_ = std::rotl(v2_, 32);
  }
  std::uint64_t v0_, v1_, v2_, v3_;
};

std::uint64_t to_key(std::uint64_t hash) {
  std::uint64_t const key = (hash & 0x7fffffffffffffffull) & ~(kProbes - 1);
  return std::max(key, kFirstNameKey);
}

}  // namespace

std::uint64_t siphash24(std::array<std::uint8_t, 16> const& seed, std::span<std::byte const> data) {
  SipState state(seed);
  std::size_t const whole = data.size() / 8 * 8;
  for (std::size_t i = 0; i < whole; i += 8) state.word(load64(data.data() + i));
  std::array<std::byte, 8> tail{};
  std::copy(data.begin() + static_cast<std::ptrdiff_t>(whole), data.end(), tail.begin());
  state.word(load64(tail.data()) | static_cast<std::uint64_t>(data.size() & 0xff) << 56);
  return state.finish();
}

std::uint64_t name_key(std::array<std::uint8_t, 16> const& seed, std::string_view name) {
  return to_key(siphash24(seed, std::as_bytes(std::span{name.data(), name.size()})));
}

std::uint64_t parent_key(std::array<std::uint8_t, 16> const& seed, std::uint64_t directory,
                         std::string_view name) {
  std::array<std::byte, 8 + kMaxName> bytes{};
  le64 const dir{directory};
  std::memcpy(bytes.data(), &dir, sizeof dir);
  auto const n = std::min<std::size_t>(name.size(), kMaxName);
  std::memcpy(bytes.data() + sizeof dir, name.data(), n);
  return to_key(siphash24(seed, std::span{bytes}.first(sizeof dir + n)));
}

std::uint64_t digest_key(Digest const& digest) {
  std::uint64_t key = 0;
  for (int i = 0; i < 7; ++i) key = key << 8 | digest[static_cast<std::size_t>(i)];
  return key << 8;
}

std::uint64_t xattr_key(std::array<std::uint8_t, 16> const& seed, std::string_view name) {
  return siphash24(seed, std::as_bytes(std::span{name.data(), name.size()})) &
         0x7fffffffffff0000ull;
}

}  // namespace lcfs::format
