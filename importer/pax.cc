// SPDX-License-Identifier: Apache-2.0
#include "importer/pax.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>

#include "oci/quote.h"

namespace lcfs::importer {
namespace {

constexpr std::size_t kMaxXattrs = 4096;      // of one file
constexpr std::uint64_t kMaxId = 0xfffffffe;  // 2^32-1 means "no id"

Status set_xattr(PaxFields& fields, std::string name, std::string value) {
  auto const it = std::find_if(fields.xattrs.begin(), fields.xattrs.end(),
                               [&](auto const& x) { return x.first == name; });
  if (it != fields.xattrs.end()) {
    it->second = std::move(value);
  } else if (fields.xattrs.size() < kMaxXattrs) {
    fields.xattrs.emplace_back(std::move(name), std::move(value));
  } else {
    return Error::corrupt(fmt::format("more than {} xattrs", kMaxXattrs));
  }
  return {};
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Decodes %XX to bytes; everything else stays.
std::string url_decode(std::string_view s) {
  std::string out;
  for (std::size_t i = 0; i < s.size(); ++i) {
    int const high = i + 2 < s.size() && s[i] == '%' ? hex_digit(s[i + 1]) : -1;
    int const low = high >= 0 ? hex_digit(s[i + 2]) : -1;
    if (low >= 0) {
      out += static_cast<char>(high * 16 + low);
      i += 2;
    } else {
      out += s[i];
    }
  }
  return out;
}

// GNU tar writes '=' and '%' in xattr names as %3D and %25, and nothing else.
std::string gnu_xattr_name(std::string_view s) {
  std::string out;
  for (std::size_t i = 0; i < s.size(); ++i) {
    std::string_view const three = s.substr(i, 3);
    if (three == "%3D" || three == "%25") {
      out += three == "%3D" ? '=' : '%';
      i += 2;
    } else {
      out += s[i];
    }
  }
  return out;
}

Result<std::string> base64_decode(std::string_view s) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  while (!s.empty() && (s.back() == '=' || s.back() == '\n')) s.remove_suffix(1);
  std::string out;
  std::uint32_t bits = 0;
  unsigned have = 0;
  for (char const c : s) {
    auto const digit = kDigits.find(c);
    if (digit == std::string_view::npos) return Error::corrupt("xattr value is not base64");
    bits = bits << 6 | static_cast<std::uint32_t>(digit);
    have += 6;
    if (have >= 8) {
      have -= 8;
      out += static_cast<char>(bits >> have & 0xffu);
    }
  }
  return out;
}

template <class T>
Status set_number(std::optional<T>& field, std::string_view value, std::uint64_t most) {
  if (value.empty()) {
    field.reset();
    return {};
  }
  LCFS_TRY_ASSIGN(auto const number, parse_decimal(value, most));
  field = static_cast<T>(number);
  return {};
}

void set_text(std::optional<std::string>& field, std::string_view value) {
  if (value.empty()) {
    field.reset();
  } else {
    field = std::string(value);
  }
}

Status add_part(PaxFields& fields, std::uint64_t offset, std::uint64_t length) {
  if (fields.sparse_parts.size() >= kMaxSparseParts)
    return Error::corrupt("sparse map has too many parts");
  fields.sparse_parts.push_back({offset, length});
  fields.sparse_has_map = true;
  return {};
}

// 0.1: "offset,length,offset,length,..."
Status set_map(PaxFields& fields, std::string_view value) {
  fields.sparse_parts.clear();
  fields.sparse_has_map = true;
  std::optional<std::uint64_t> offset;
  while (!value.empty()) {
    auto const comma = std::min(value.find(','), value.size());
    LCFS_TRY_ASSIGN(auto const number, parse_decimal(value.substr(0, comma), format::kMaxFileSize));
    value.remove_prefix(std::min(comma + 1, value.size()));
    if (offset) {
      LCFS_TRY(add_part(fields, *offset, number));
      offset.reset();
    } else {
      offset = number;
    }
  }
  if (offset) return Error::corrupt("sparse map has an offset without a length");
  return {};
}

Status set_sparse(PaxFields& fields, std::string_view key, std::string_view value) {
  if (key == "name") {
    set_text(fields.sparse_name, value);
  } else if (key == "size" || key == "realsize") {
    return set_number(fields.sparse_size, value, format::kMaxFileSize);
  } else if (key == "major" || key == "minor") {
    LCFS_TRY_ASSIGN(auto const number, parse_decimal(value, 0xffff));
    (key == "major" ? fields.sparse_major : fields.sparse_minor) =
        static_cast<std::uint32_t>(number);
  } else if (key == "map") {
    return set_map(fields, value);
  } else if (key == "numblocks") {
    fields.sparse_has_map = true;  // a 0.0 file without data has no other record
  } else if (key == "offset") {
    return set_number(fields.sparse_offset, value, format::kMaxFileSize);
  } else if (key == "numbytes") {
    if (!fields.sparse_offset)
      return Error::corrupt("GNU.sparse.numbytes without a preceding offset");
    LCFS_TRY_ASSIGN(auto const length, parse_decimal(value, format::kMaxFileSize));
    LCFS_TRY(add_part(fields, *fields.sparse_offset, length));
    fields.sparse_offset.reset();
  }
  return {};
}

bool take_prefix(std::string_view& key, std::string_view prefix) {
  if (!key.starts_with(prefix)) return false;
  key.remove_prefix(prefix.size());
  return true;
}

Status apply(PaxFields& fields, std::string_view key, std::string_view value) {
  if (key == "path") {
    set_text(fields.path, value);
  } else if (key == "linkpath") {
    set_text(fields.link, value);
  } else if (key == "size") {
    return set_number(fields.size, value, format::kMaxFileSize);
  } else if (key == "uid") {
    return set_number(fields.uid, value, kMaxId);
  } else if (key == "gid") {
    return set_number(fields.gid, value, kMaxId);
  } else if (key == "mtime") {
    fields.mtime.reset();
    if (value.empty()) return {};
    LCFS_TRY_ASSIGN(fields.mtime, parse_pax_time(value));
  } else if (key == "SCHILY.acl.access") {
    set_text(fields.acl_access, value);
  } else if (key == "SCHILY.acl.default") {
    set_text(fields.acl_default, value);
  } else if (take_prefix(key, "SCHILY.xattr.")) {
    return set_xattr(fields, gnu_xattr_name(key), std::string(value));
  } else if (take_prefix(key, "LIBARCHIVE.xattr.")) {
    LCFS_TRY_ASSIGN(auto decoded, base64_decode(value));
    return set_xattr(fields, url_decode(key), std::move(decoded));
  } else if (take_prefix(key, "GNU.sparse.")) {
    return set_sparse(fields, key, value);
  }
  return {};
}

}  // namespace

Result<std::uint64_t> parse_decimal(std::string_view text, std::uint64_t most) {
  if (text.empty()) return Error::corrupt("a number is missing");
  std::uint64_t value = 0;
  for (char const c : text) {
    if (c < '0' || c > '9')
      return Error::corrupt(fmt::format("\"{}\" is not a valid number", oci::printable(text)));
    auto const digit = static_cast<std::uint64_t>(c - '0');
    if (digit > most || value > (most - digit) / 10)
      return Error::corrupt(fmt::format("\"{}\" is too large", oci::printable(text)));
    value = value * 10 + digit;
  }
  return value;
}

Result<format::Timestamp> parse_pax_time(std::string_view text) {
  std::string_view rest = text;
  bool const negative = !rest.empty() && rest[0] == '-';
  if (negative) rest.remove_prefix(1);
  auto const dot = std::min(rest.find('.'), rest.size());
  auto const whole = parse_decimal(rest.substr(0, dot), std::numeric_limits<std::int64_t>::max());
  if (!whole) return Error::corrupt(fmt::format("\"{}\" is not a time", oci::printable(text)));
  std::uint32_t nsec = 0;
  bool more = false;  // digits beyond nanoseconds that are not zero
  std::string_view const fraction = rest.substr(std::min(dot + 1, rest.size()));
  for (std::size_t i = 0; i < std::max<std::size_t>(fraction.size(), 9); ++i) {
    char const c = i < fraction.size() ? fraction[i] : '0';
    if (c < '0' || c > '9')
      return Error::corrupt(fmt::format("\"{}\" is not a time", oci::printable(text)));
    if (i < 9) nsec = nsec * 10 + static_cast<std::uint32_t>(c - '0');
    if (i >= 9 && c != '0') more = true;
  }
  auto const sec = static_cast<std::int64_t>(*whole);
  if (!negative) return format::Timestamp{sec, nsec};
  // -1.5 is half a second into second -2.
  if (more) ++nsec;
  if (nsec == 0) return format::Timestamp{-sec, 0};
  if (nsec == 1'000'000'000) return format::Timestamp{-sec - 1, 0};
  return format::Timestamp{-sec - 1, 1'000'000'000 - nsec};
}

Status parse_pax(std::string_view body, PaxFields& fields) {
  std::size_t at = 0;
  auto fail = [&](std::string message) { return Error::corrupt(std::move(message)).at(at); };
  while (at < body.size()) {
    std::string_view const rest = body.substr(at);
    auto const blank = rest.find(' ');
    auto const length = parse_decimal(rest.substr(0, std::min(blank, rest.size())), rest.size());
    if (blank == std::string_view::npos || blank == 0 || blank > 20 || !length ||
        *length <= blank + 1) {
      return fail("damaged pax record: invalid length");
    }
    std::string_view const record = rest.substr(blank + 1, *length - blank - 1);
    auto const equals = record.find('=');
    if (record.back() != '\n' || equals == std::string_view::npos || equals == 0) {
      return fail("damaged pax record: not KEY=VALUE followed by a newline");
    }
    std::string_view const key = record.substr(0, equals);
    auto applied = apply(fields, key, record.substr(equals + 1, record.size() - equals - 2));
    if (!applied)
      return fail(fmt::format("pax record {}: {}", oci::printable(key), applied.error().message));
    at += *length;
  }
  return {};
}

}  // namespace lcfs::importer
