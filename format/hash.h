// SPDX-License-Identifier: Apache-2.0
// The checksums and name hashes of the format, and the keys made of them.
// Specification: doc/format.md, "Checksums" and "Name keys".
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "format/layout.h"

namespace lcfs::format {

// CRC-32C (Castagnoli, reflected 0x82f63b78, initial and final xor ~0, as in RFC 3720) of `data`.
[[nodiscard]] std::uint32_t crc32c(std::span<std::byte const> data);

// SipHash-2-4 (Aumasson and Bernstein, 2012) of `data` under the 128-bit key `seed`.
[[nodiscard]] std::uint64_t siphash24(std::array<std::uint8_t, 16> const& seed,
                                      std::span<std::byte const> data);

// Records found by name or digest live at a 63-bit key: 55 hash bits, then 8 bits that number the
// records whose hash bits are the same ("probe", from 0 up, gaps allowed).  Keys are at
// least kFirstNameKey, which leaves 0, 1 and 2 for the readdir cookies of "start", "." and "..".
// (Digest keys use all 64 bits: 56 and 8.)
inline constexpr std::uint64_t kProbes = 256;
inline constexpr std::uint64_t kFirstNameKey = kProbes;

// The first key (probe 0) for a directory entry, xattr, layer or image name.
[[nodiscard]] std::uint64_t name_key(std::array<std::uint8_t, 16> const& seed,
                                     std::string_view name);
// The first key for a back-reference: hash of le64(directory) followed by the name.
[[nodiscard]] std::uint64_t parent_key(std::array<std::uint8_t, 16> const& seed,
                                       std::uint64_t directory, std::string_view name);
// The first key for a digest: its first 7 bytes, big-endian, shifted left by 8: digests sort by
// prefix.
[[nodiscard]] std::uint64_t digest_key(Digest const& digest);
// Xattr records use 47 hash bits, 8 probe bits, 8 chunk bits: name_key's hash bits from bit 16 up.
inline constexpr std::uint64_t kXattrProbeStep = 256;
[[nodiscard]] std::uint64_t xattr_key(std::array<std::uint8_t, 16> const& seed,
                                      std::string_view name);

}  // namespace lcfs::format
