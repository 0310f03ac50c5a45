// SPDX-License-Identifier: Apache-2.0
// What the parsers of file_records.cc and store_records.cc share: checks that report where in the
// record's value the damage is.  Private to format/.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#include "format/hash.h"
#include "format/records.h"

namespace lcfs::format {

inline constexpr std::uint64_t kNameKeyEnd = 1ull << 63;  // name keys are below it
inline constexpr std::uint32_t kNsecEnd = 1'000'000'000;

inline Error corrupt_at(std::size_t offset, std::string message) {
  return Error::corrupt(std::move(message)).at(offset);
}

// A key has no offset in the value, so damage in it is reported at the start of the value.
inline Error bad_key(char const* what, Key const& key) {
  return corrupt_at(0, fmt::format("{} has an invalid key ({}, {:#04x}, {:#x})", what, key.inode,
                                   key.kind, key.offset));
}

// Copies the fixed part of a record out of a value that must hold at least that.
template <class Record>
Result<Record> fixed_part(char const* what, Bytes value) {
  static_assert(std::is_trivially_copyable_v<Record>);
  if (value.size() < sizeof(Record))
    return corrupt_at(value.size(), fmt::format("{} cut short: {} of {} bytes", what, value.size(),
                                                sizeof(Record)));
  Record r;
  std::memcpy(&r, value.data(), sizeof r);
  return r;
}

inline Status check_size(char const* what, Bytes value, std::size_t expected) {
  if (value.size() == expected) return {};
  return corrupt_at(std::min(value.size(), expected),
                    fmt::format("{} has {} bytes, expected {}", what, value.size(), expected));
}

template <class T>
std::size_t first_nonzero(T const& bytes) {
  return static_cast<std::size_t>(
      std::find_if(bytes.begin(), bytes.end(), [](auto b) { return b != 0; }) - bytes.begin());
}

inline std::string_view text_of(Bytes value, std::size_t from) {
  return {reinterpret_cast<char const*>(value.data()) + from, value.size() - from};
}

// Names that become path components: of directory entries and of layers.
inline Status check_component(char const* what, std::string_view name, std::size_t at) {
  if (name == "." || name == "..") return corrupt_at(at, fmt::format("{} is \"{}\"", what, name));
  if (auto const n = name.find_first_of(std::string_view{"/\0", 2}); n != std::string_view::npos)
    return corrupt_at(
        at + n, fmt::format("{} contains {}", what, name[n] == '/' ? "a slash" : "a NUL byte"));
  return {};
}

inline Status check_no_nul(char const* what, std::string_view name, std::size_t at) {
  if (auto const n = name.find('\0'); n != std::string_view::npos)
    return corrupt_at(at + n, fmt::format("{} contains a NUL byte", what));
  return {};
}

inline bool is_name_key(std::uint64_t offset) {
  return offset >= kFirstNameKey && offset < kNameKeyEnd;
}

// A pointer that is not empty: the whole node lies in the store.
inline Status check_pointer(char const* what, NodePtr const& p, std::uint64_t total_blocks,
                            std::size_t at) {
  auto const block = p.block.get();
  if (block < kReservedBlocks || total_blocks < kNodeBlocks || block > total_blocks - kNodeBlocks)
    return corrupt_at(at, fmt::format("{} block {} outside the store", what, block));
  if (p.generation.get() == 0)
    return corrupt_at(at + offsetof(NodePtr, generation), fmt::format("{} generation 0", what));
  return {};
}

template <class Record>
std::string with_tail(Record const& r, std::string_view tail) {
  std::string out(sizeof r + tail.size(), '\0');
  std::memcpy(out.data(), &r, sizeof r);
  std::copy(tail.begin(), tail.end(), out.begin() + sizeof r);
  return out;
}

// An extent of a file, or of something else that ends at `end` bytes; the key is the caller's to
// check.
Result<ExtentInfo> extent_at(Key const& key, Bytes value, std::uint64_t total_blocks,
                             std::uint64_t end);

}  // namespace lcfs::format
