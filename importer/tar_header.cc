// SPDX-License-Identifier: Apache-2.0
#include "importer/tar_header.h"

#include <fmt/format.h>

#include <cstring>
#include <limits>

#include "oci/quote.h"

namespace lcfs::importer {
namespace {

constexpr std::size_t kChecksumAt = 148, kChecksumSize = 8;
constexpr std::size_t kPartSize = 24;  // two numbers of 12

std::string_view until_nul(std::string_view s) { return s.substr(0, s.find('\0')); }

Result<std::int64_t> parse_base256(std::string_view digits, char const* field) {
  auto const first = static_cast<unsigned char>(digits[0]);
  bool const negative = (first & 0x40u) != 0;
  // The marker bit is replaced by the sign; then two's complement, big endian.
  std::int64_t value = negative ? -1 : 0;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    unsigned byte = static_cast<unsigned char>(digits[i]);
    if (i == 0) byte = negative ? byte | 0x80u : byte & 0x7fu;
    constexpr std::int64_t kTop = std::numeric_limits<std::int64_t>::max() >> 8;
    if (value > kTop || value < -kTop - 1)
      return Error::corrupt(fmt::format("{} is too large", field));
    value = value * 256 + static_cast<std::int64_t>(byte);
  }
  return value;
}

Status append_part(std::string_view at, std::vector<SparsePart>& into) {
  if (at[0] == '\0' && at[12] == '\0') return {};  // unused
  LCFS_TRY_ASSIGN(auto const offset, parse_tar_number(at.substr(0, 12), "sparse offset"));
  LCFS_TRY_ASSIGN(auto const length, parse_tar_number(at.substr(12, 12), "sparse length"));
  if (offset < 0 || length < 0) return Error::corrupt("sparse map has a negative number");
  into.push_back({static_cast<std::uint64_t>(offset), static_cast<std::uint64_t>(length)});
  return {};
}

}  // namespace

Result<std::int64_t> parse_tar_number(std::string_view digits, char const* field) {
  if ((static_cast<unsigned char>(digits[0]) & 0x80u) != 0) return parse_base256(digits, field);
  std::size_t i = 0;
  while (i < digits.size() && (digits[i] == ' ' || digits[i] == '\0')) ++i;
  std::int64_t value = 0;
  for (; i < digits.size() && digits[i] != ' ' && digits[i] != '\0'; ++i) {
    if (digits[i] < '0' || digits[i] > '7') {
      return Error::corrupt(fmt::format("{} is not an octal number: \"{}\"", field,
                                        oci::printable(until_nul(digits))));
    }
    value = value * 8 + (digits[i] - '0');  // 12 digits at most: fits
  }
  return value;
}

TarHeader::TarHeader(std::string_view text) : text_(text) {
  std::string_view const magic = text.substr(257, 8);
  if (magic.substr(0, 6) == std::string_view("ustar\0", 6)) {
    dialect_ = text.substr(508, 4) == std::string_view("tar\0", 4) ? TarDialect::kStar
                                                                   : TarDialect::kUstar;
  } else if (magic == std::string_view("ustar  \0", 8)) {
    dialect_ = TarDialect::kGnu;
  }
}

Result<TarHeader> TarHeader::parse(std::span<std::byte const, kTarBlock> block) {
  std::string_view const text(reinterpret_cast<char const*>(block.data()), block.size());
  std::int64_t plain = 0, with_sign = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    bool const own = i >= kChecksumAt && i < kChecksumAt + kChecksumSize;
    char const c = own ? ' ' : text[i];
    plain += static_cast<unsigned char>(c);
    with_sign += static_cast<signed char>(c);
  }
  auto const stored = parse_tar_number(text.substr(kChecksumAt, kChecksumSize), "checksum");
  if (!stored || (*stored != plain && *stored != with_sign))
    return Error::corrupt("not a tar header (checksum mismatch)");
  return TarHeader(text);
}

std::string TarHeader::name() const {
  std::string_view const name = until_nul(text_.substr(0, 100));
  std::string_view prefix;
  if (dialect_ == TarDialect::kUstar) prefix = until_nul(text_.substr(345, 155));
  if (dialect_ == TarDialect::kStar) prefix = until_nul(text_.substr(345, 131));
  if (prefix.empty()) return std::string(name);
  return fmt::format("{}/{}", prefix, name);
}

std::string_view TarHeader::link() const { return until_nul(text_.substr(157, 100)); }

Result<std::int64_t> TarHeader::number(std::size_t at, std::size_t size, char const* field) const {
  return parse_tar_number(text_.substr(at, size), field);
}

Status TarHeader::sparse_parts(std::vector<SparsePart>& into) const {
  for (std::size_t i = 0; i < 4; ++i)
    LCFS_TRY(append_part(text_.substr(386 + i * kPartSize, kPartSize), into));
  return {};
}

Result<bool> parse_sparse_extension(std::span<std::byte const, kTarBlock> block,
                                    std::vector<SparsePart>& into) {
  std::string_view const text(reinterpret_cast<char const*>(block.data()), block.size());
  for (std::size_t i = 0; i < 21; ++i)
    LCFS_TRY(append_part(text.substr(i * kPartSize, kPartSize), into));
  return text[504] != '\0';
}

}  // namespace lcfs::importer
