// SPDX-License-Identifier: Apache-2.0
// pax extended headers: the records of one 'x' or 'g' header, read into fields.
// Specification: POSIX.1-2017 pax(1), "pax Extended Header"; GNU tar manual, "Storing Sparse
// Files"; star(5) for SCHILY.xattr and SCHILY.acl; libarchive's tar(5) for LIBARCHIVE.xattr.
// hdrcharset is ignored: names are bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "format/layout.h"
#include "format/records.h"
#include "importer/tar_header.h"

namespace lcfs::importer {

inline constexpr std::uint64_t kMaxPaxHeader = 1u << 20;  // bytes of one extended header
inline constexpr std::size_t kMaxSparseParts = std::size_t{1} << 20;

// The fields in force.  A record without a value removes its field, as POSIX says; but an xattr
// record without a value is an empty xattr.
struct PaxFields {
  std::optional<std::string> path{}, link{};
  std::optional<std::uint64_t> size{};
  std::optional<std::uint32_t> uid{}, gid{};
  std::optional<format::Timestamp> mtime{};
  std::vector<std::pair<std::string, std::string>> xattrs{};  // unique names
  std::optional<std::string> acl_access{}, acl_default{};     // text

  // GNU sparse files 0.0, 0.1 and 1.0
  std::uint32_t sparse_major = 0, sparse_minor = 0;
  std::optional<std::string> sparse_name{};
  std::optional<std::uint64_t> sparse_size{};
  std::vector<SparsePart> sparse_parts{};
  bool sparse_has_map = false;                   // 0.0 and 0.1: parts are here
  std::optional<std::uint64_t> sparse_offset{};  // 0.0: waits for its numbytes

  [[nodiscard]] bool sparse_1_0() const {
    return sparse_major == 1 && sparse_minor == 0 && sparse_size.has_value();
  }
};

// Applies the records of `body` to `fields`, in order.  Errors are kCorrupt, with the
// offset in `body`.
Status parse_pax(std::string_view body, PaxFields& fields);

// "123", "-1.5", "1700000000.123456789": seconds since 1970, cut to nanoseconds towards the past.
Result<format::Timestamp> parse_pax_time(std::string_view text);

// Decimal digits only, at most `most`.
Result<std::uint64_t> parse_decimal(std::string_view text, std::uint64_t most);

}  // namespace lcfs::importer
