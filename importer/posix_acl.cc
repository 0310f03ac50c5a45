// SPDX-License-Identifier: Apache-2.0
#include "importer/posix_acl.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

#include "base/endian.h"
#include "importer/pax.h"
#include "oci/quote.h"

namespace lcfs::importer {
namespace {

enum Tag : std::uint16_t {
  kUserObj = 1,
  kUser = 2,
  kGroupObj = 4,
  kGroup = 8,
  kMask = 16,
  kOther = 32
};
constexpr std::uint32_t kNoId = 0xffffffff;
constexpr std::uint32_t kVersion = 2;
constexpr std::size_t kEntrySize = 8;
constexpr std::size_t kMaxEntries = 8191;  // what fits into one xattr of 64 KiB

struct Entry {
  std::uint16_t tag = 0;
  std::uint16_t permissions = 0;
  std::uint32_t id = kNoId;
};

Error bad(std::string_view entry) {
  return Error::corrupt(fmt::format("damaged ACL entry \"{}\"", oci::printable(entry)));
}

std::string_view trim(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t' || s.back() == '\r'))
    s.remove_suffix(1);
  return s;
}

std::vector<std::string_view> split(std::string_view s, std::string_view separators) {
  std::vector<std::string_view> parts;
  for (;;) {
    auto const at = s.find_first_of(separators);
    parts.push_back(trim(s.substr(0, at)));
    if (at == std::string_view::npos) return parts;
    s.remove_prefix(at + 1);
  }
}

// The tag of an entry, from its type and whether it has a name; 0: no such type.
std::uint16_t tag_of(std::string_view type, bool named) {
  if (type == "user" || type == "u") return named ? kUser : kUserObj;
  if (type == "group" || type == "g") return named ? kGroup : kGroupObj;
  if (type == "mask" || type == "m") return kMask;
  if (type == "other" || type == "o") return kOther;
  return 0;
}

Result<std::uint16_t> permissions_of(std::string_view text, std::string_view entry) {
  std::uint16_t bits = 0;
  for (char const c : text) {
    if (c == 'r')
      bits |= 4;
    else if (c == 'w')
      bits |= 2;
    else if (c == 'x')
      bits |= 1;
    else if (c != '-')
      return bad(entry);
  }
  return bits;
}

Result<Entry> parse_entry(std::string_view text) {
  auto const fields = split(text, ":");
  Entry entry;
  // "mask:rwx" and "other:rwx" are written too, without the empty name.
  bool const short_form = fields.size() == 2;
  if (fields.size() < 2 || fields.size() > 4) return bad(text);
  std::string_view const name = short_form ? std::string_view{} : fields[1];
  entry.tag = tag_of(fields[0], !name.empty());
  if (entry.tag == 0 || (short_form && entry.tag != kMask && entry.tag != kOther)) return bad(text);
  LCFS_TRY_ASSIGN(entry.permissions, permissions_of(fields[short_form ? 1 : 2], text));
  if (name.empty() || entry.tag == kMask || entry.tag == kOther) return entry;
  bool const has_id = fields.size() == 4 && !fields[3].empty();
  auto const id = parse_decimal(has_id ? fields[3] : name, kNoId - 1);
  if (!id && has_id) return bad(text);
  if (!id) {
    return Error::unsupported(
        fmt::format("ACL entry \"{}\" has no numeric id", oci::printable(text)));
  }
  entry.id = static_cast<std::uint32_t>(*id);
  return entry;
}

Status check(std::vector<Entry>& entries) {
  std::size_t named = 0;
  std::uint16_t group_class = 0;
  std::array<std::size_t, 33> count{};
  for (auto const& e : entries) {
    ++count[e.tag];
    if (e.tag == kUser || e.tag == kGroup) ++named;
    if (e.tag == kUser || e.tag == kGroup || e.tag == kGroupObj) group_class |= e.permissions;
  }
  bool const whole =
      count[kUserObj] == 1 && count[kGroupObj] == 1 && count[kOther] == 1 && count[kMask] <= 1;
  if (!whole) return Error::corrupt("ACL lacks an entry for owner, group or others");
  if (named > 0 && count[kMask] == 0) entries.push_back({kMask, group_class, kNoId});
  auto const order = [](Entry const& a, Entry const& b) {
    return std::tie(a.tag, a.id) < std::tie(b.tag, b.id);
  };
  std::stable_sort(entries.begin(), entries.end(), order);
  auto const same = [](Entry const& a, Entry const& b) { return a.tag == b.tag && a.id == b.id; };
  if (std::adjacent_find(entries.begin(), entries.end(), same) != entries.end()) {
    return Error::corrupt("ACL has two entries for the same user or group");
  }
  return {};
}

template <class T>
void put(std::string& out, T value) {
  LittleEndian<T> const bytes(value);
  out.append(reinterpret_cast<char const*>(&bytes), sizeof bytes);
}

}  // namespace

Result<std::string> acl_xattr(std::string_view text) {
  std::vector<Entry> entries;
  for (auto item : split(text, ",\n")) {
    item = trim(item.substr(0, item.find('#')));  // "#effective:r--"
    if (item.empty()) continue;
    if (entries.size() >= kMaxEntries) return Error::corrupt("ACL is too long");
    LCFS_TRY_ASSIGN(auto const entry, parse_entry(item));
    entries.push_back(entry);
  }
  LCFS_TRY(check(entries));
  if (entries.size() == 3) return std::string();
  std::string out;
  put(out, kVersion);
  for (auto const& e : entries) {
    put(out, e.tag);
    put(out, e.permissions);
    put(out, e.id);
  }
  return out;
}

std::uint32_t acl_permissions(std::string_view xattr) {
  std::uint32_t bits = 0;
  for (std::size_t at = sizeof kVersion; at + kEntrySize <= xattr.size(); at += kEntrySize) {
    std::uint32_t const permissions = static_cast<unsigned char>(xattr[at + 2]) & 7u;
    switch (static_cast<unsigned char>(xattr[at])) {
      case kUserObj: bits |= permissions << 6; break;
      case kMask: bits |= permissions << 3; break;  // more than three entries have one
      case kOther: bits |= permissions; break;
      default: break;
    }
  }
  return bits;
}

}  // namespace lcfs::importer
