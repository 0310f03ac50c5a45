// SPDX-License-Identifier: Apache-2.0
#include "mount/acl.h"

#include <cerrno>
#include <cstring>

#include "base/endian.h"

namespace lcfs::mount {
namespace {

constexpr std::uint32_t kVersion = 2;
constexpr std::uint16_t kUserObj = 0x01, kUser = 0x02, kGroupObj = 0x04, kGroup = 0x08,
                        kMask = 0x10, kOther = 0x20;
constexpr std::uint32_t kNoId = 0xffffffff;

struct RawEntry {
  le16 tag, permissions;
  le32 id;
};
static_assert(sizeof(RawEntry) == 8);

}  // namespace

Result<Acl> Acl::parse(std::string_view bytes) {
  le32 version{};
  if (bytes.size() < sizeof version || (bytes.size() - sizeof version) % sizeof(RawEntry) != 0)
    return fs_error(EINVAL);
  std::memcpy(&version, bytes.data(), sizeof version);
  if (version.get() != kVersion) return fs_error(EOPNOTSUPP);
  Acl acl;
  std::uint16_t last_tag = 0;
  std::uint32_t last_id = 0;
  bool named = false, mask = false;
  unsigned single = 0;
  for (std::size_t at = sizeof version; at < bytes.size(); at += sizeof(RawEntry)) {
    RawEntry raw{};
    std::memcpy(&raw, bytes.data() + at, sizeof raw);
    Entry entry{raw.tag.get(), raw.permissions.get(), raw.id.get()};
    if (entry.permissions > 7) return fs_error(EINVAL);
    bool const has_id = entry.tag == kUser || entry.tag == kGroup;
    if (entry.tag < last_tag || (entry.tag == last_tag && (!has_id || entry.id <= last_id)))
      return fs_error(EINVAL);
    switch (entry.tag) {
      case kUserObj:
      case kGroupObj:
      case kOther: ++single; break;
      case kUser:
      case kGroup:
        if (entry.id == kNoId) return fs_error(EINVAL);
        named = true;
        break;
      case kMask: mask = true; break;
      default: return fs_error(EINVAL);
    }
    if (!has_id) entry.id = kNoId;
    last_tag = entry.tag;
    last_id = entry.id;
    acl.entries_.push_back(entry);
  }
  if (acl.entries_.empty()) return acl;
  if (single != 3 || (named && !mask)) return fs_error(EINVAL);
  return acl;
}

std::string Acl::bytes() const {
  std::string out(sizeof(le32) + entries_.size() * sizeof(RawEntry), '\0');
  le32 version{};
  version.set(kVersion);
  std::memcpy(out.data(), &version, sizeof version);
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    RawEntry raw{};
    raw.tag.set(entries_[i].tag);
    raw.permissions.set(entries_[i].permissions);
    raw.id.set(entries_[i].id);
    std::memcpy(out.data() + sizeof version + i * sizeof raw, &raw, sizeof raw);
  }
  return out;
}

Acl::Entry const* Acl::find(std::uint16_t tag) const {
  for (auto const& entry : entries_) {
    if (entry.tag == tag) return &entry;
  }
  return nullptr;
}

Acl::Entry* Acl::find(std::uint16_t tag) {
  return const_cast<Entry*>(static_cast<Acl const*>(this)->find(tag));
}

std::uint32_t Acl::mode() const {
  if (entries_.empty()) return 0;
  auto const* group = find(kMask);
  if (group == nullptr) group = find(kGroupObj);
  return static_cast<std::uint32_t>(find(kUserObj)->permissions << 6 | group->permissions << 3 |
                                    find(kOther)->permissions);
}

bool Acl::trivial() const { return entries_.size() <= 3; }

void Acl::set_mode(std::uint32_t mode) {
  if (entries_.empty()) return;
  auto* group = find(kMask);
  if (group == nullptr) group = find(kGroupObj);
  find(kUserObj)->permissions = static_cast<std::uint16_t>(mode >> 6 & 7);
  group->permissions = static_cast<std::uint16_t>(mode >> 3 & 7);
  find(kOther)->permissions = static_cast<std::uint16_t>(mode & 7);
}

std::uint32_t Acl::inherit(std::uint32_t mode) {
  if (entries_.empty()) return mode;
  auto* group = find(kMask);
  if (group == nullptr) group = find(kGroupObj);
  auto const limit = [](Entry& entry, std::uint32_t bits) {
    entry.permissions = static_cast<std::uint16_t>(entry.permissions & bits & 7);
    return std::uint32_t{entry.permissions};
  };
  std::uint32_t const user = limit(*find(kUserObj), mode >> 6), shared = limit(*group, mode >> 3),
                      other = limit(*find(kOther), mode);
  return (mode & ~0777u) | user << 6 | shared << 3 | other;
}

}  // namespace lcfs::mount
