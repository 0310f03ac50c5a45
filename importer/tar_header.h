// SPDX-License-Identifier: Apache-2.0
// One 512-byte tar header block: v7, POSIX.1-1988 ustar, GNU and star layouts.
// Specification: POSIX.1-2017 pax(1), "ustar Interchange Format"; GNU tar manual, "Basic Tar
// Format".
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace lcfs::importer {

inline constexpr std::size_t kTarBlock = 512;

// A part of a file with data; between two parts is a hole.
struct SparsePart {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

enum class TarDialect : std::uint8_t { kV7, kUstar, kGnu, kStar };

// A block with a valid checksum.  A view: the block must outlive it.  Errors are kCorrupt and
// name the field.
class TarHeader {
 public:
  // Errors: the checksum (unsigned or signed sum) is wrong.
  static Result<TarHeader> parse(std::span<std::byte const, kTarBlock> block);

  [[nodiscard]] TarDialect dialect() const { return dialect_; }
  [[nodiscard]] char type() const { return text_[156]; }
  [[nodiscard]] std::string name() const;  // with the prefix, where the dialect has one
  [[nodiscard]] std::string_view link() const;

  Result<std::int64_t> mode() const { return number(100, 8, "mode"); }
  Result<std::int64_t> uid() const { return number(108, 8, "uid"); }
  Result<std::int64_t> gid() const { return number(116, 8, "gid"); }
  Result<std::int64_t> size() const { return number(124, 12, "size"); }
  Result<std::int64_t> mtime() const { return number(136, 12, "mtime"); }
  Result<std::int64_t> dev_major() const { return number(329, 8, "devmajor"); }
  Result<std::int64_t> dev_minor() const { return number(337, 8, "devminor"); }

  // Old GNU sparse files (type S): the size with the holes, and the parts this block has room for,
  // appended to `into`.
  Result<std::int64_t> sparse_size() const { return number(483, 12, "realsize"); }
  Status sparse_parts(std::vector<SparsePart>& into) const;
  [[nodiscard]] bool sparse_extended() const { return text_[482] != '\0'; }

 private:
  explicit TarHeader(std::string_view text);
  Result<std::int64_t> number(std::size_t at, std::size_t size, char const* field) const;

  std::string_view text_;
  TarDialect dialect_ = TarDialect::kV7;
};

// A block that continues the parts of an old GNU sparse file; true if one more such block follows.
Result<bool> parse_sparse_extension(std::span<std::byte const, kTarBlock> block,
                                    std::vector<SparsePart>& into);

// A number field: octal digits between blanks or NULs, or base-256 (first bit set, two's
// complement). `field` is its name in errors.
Result<std::int64_t> parse_tar_number(std::string_view digits, char const* field);

}  // namespace lcfs::importer
