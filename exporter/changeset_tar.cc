// SPDX-License-Identifier: Apache-2.0
#include "exporter/changeset_tar.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

namespace lcfs::exporter {
namespace {

constexpr std::size_t kTarBlock = 512;
constexpr std::size_t kNameRoom = 100;

// A number of `width - 1` octal digits, if it fits.
bool put_octal(std::string& header, std::size_t at, std::size_t width, std::uint64_t value) {
  auto const text = fmt::format("{:0{}o}", value, width - 1);
  if (text.size() >= width) return false;
  header.replace(at, text.size(), text);
  return true;
}

std::string pax_record(std::string_view key, std::string_view value) {
  // The length counts its own digits.
  std::size_t const rest = key.size() + value.size() + 3;
  std::size_t size = rest + 1;
  while (size != rest + std::to_string(size).size()) size = rest + std::to_string(size).size();
  return fmt::format("{} {}={}\n", size, key, value);
}

// Seconds with a fraction: 1.5 for {1, 500000000}, -0.5 for {-1, 500000000}.
std::string pax_time(Timestamp const& time) {
  auto sec = time.sec;
  auto nsec = time.nsec;
  bool const negative = sec < 0;
  if (negative && nsec != 0) {
    ++sec;
    nsec = 1000000000u - nsec;
  }
  auto text = fmt::format("{}{}", negative && sec == 0 ? "-" : "", sec);
  if (nsec == 0) return text;
  text += fmt::format(".{:09}", nsec);
  text.erase(text.find_last_not_of('0') + 1);
  return text;
}

std::string header_of(std::string_view name, char type, std::uint64_t size) {
  std::string h(kTarBlock, '\0');
  h.replace(0, std::min(name.size(), kNameRoom), name.substr(0, kNameRoom));
  h[156] = type;
  h.replace(257, 8, std::string_view("ustar\00000", 8));
  put_octal(h, 124, 12, size);
  return h;
}

std::string with_sum(std::string header) {
  header.replace(148, 8, 8, ' ');
  unsigned sum = 0;
  for (char const c : header) sum += static_cast<unsigned char>(c);
  header.replace(148, 8, fmt::format("{:06o}", sum) + std::string("\0 ", 2));
  return header;
}

std::string padding(std::uint64_t size) {
  return std::string((kTarBlock - size % kTarBlock) % kTarBlock, '\0');
}

}  // namespace

void ChangesetTar::clamp(InodeInfo& info) const {
  if (latest_ && info.mtime > Timestamp{*latest_, 0}) info.mtime = {*latest_, 0};
}

Status ChangesetTar::write(std::vector<ChangesetItem> const& items) {
  for (auto const& item : items) LCFS_TRY(write_item(item));
  return out_.text(std::string(2 * kTarBlock, '\0'));
}

Status ChangesetTar::write_item(ChangesetItem const& item) {
  Member member;
  member.name = item.path.substr(1);
  if (item.whiteout) {
    auto const slash = member.name.rfind('/');
    member.name.insert(slash == std::string::npos ? 0 : slash + 1, ".wh.");
    member.info.mode = S_IFREG;
    return write_header(std::move(member));
  }
  LCFS_TRY_ASSIGN(member.info, layer_.inode(item.inode));
  clamp(member.info);
  switch (member.info.mode & S_IFMT) {
    case S_IFREG: member.size = member.info.size; break;
    case S_IFDIR:
      member.type = '5';
      member.name = member.name.empty() ? "./" : member.name + "/";
      break;
    case S_IFLNK: {
      member.type = '2';
      LCFS_TRY_ASSIGN(member.link, layer_.target(item.inode));
      break;
    }
    case S_IFCHR: member.type = '3'; break;
    case S_IFBLK: member.type = '4'; break;
    case S_IFIFO: member.type = '6'; break;
    default: skipped_(item.path); return Ok{};
  }
  if (!item.link_to.empty()) {
    member.type = '1';
    member.size = 0;
    member.link = item.link_to.substr(1);
    return write_header(std::move(member));
  }
  LCFS_TRY_ASSIGN(auto const xattrs, layer_.xattrs(item.inode));
  for (auto const& [name, value] : xattrs) member.pax.emplace_back("SCHILY.xattr." + name, value);
  std::uint64_t const size = member.size;
  LCFS_TRY(write_header(std::move(member)));
  if (size == 0) return Ok{};
  LCFS_TRY(out_.body(item.inode, 0, size));
  return out_.text(padding(size));
}

Status ChangesetTar::write_header(Member member) {
  auto const& info = member.info;
  auto h = header_of(member.name, member.type, 0);
  auto const pax = [&member](char const* key, std::string value) {
    member.pax.emplace_back(key, std::move(value));
  };
  if (member.name.size() > kNameRoom) pax("path", member.name);
  h.replace(157, std::min(member.link.size(), kNameRoom), member.link.substr(0, kNameRoom));
  if (member.link.size() > kNameRoom) pax("linkpath", member.link);
  put_octal(h, 100, 8, info.mode & 07777);
  if (!put_octal(h, 108, 8, info.uid)) {
    put_octal(h, 108, 8, 0);
    pax("uid", std::to_string(info.uid));
  }
  if (!put_octal(h, 116, 8, info.gid)) {
    put_octal(h, 116, 8, 0);
    pax("gid", std::to_string(info.gid));
  }
  if (!put_octal(h, 124, 12, member.size)) {
    put_octal(h, 124, 12, 0);
    pax("size", std::to_string(member.size));
  }
  std::int64_t const sec = info.mtime.sec;
  bool const plain = sec >= 0 && put_octal(h, 136, 12, static_cast<std::uint64_t>(sec));
  if (!plain) put_octal(h, 136, 12, 0);
  if (!plain || info.mtime.nsec != 0) pax("mtime", pax_time(info.mtime));
  bool const device = member.type == '3' || member.type == '4';
  put_octal(h, 329, 8, device ? info.rdev >> 32 : 0);
  put_octal(h, 337, 8, device ? info.rdev & 0xffffffff : 0);
  if (!member.pax.empty()) {
    std::sort(member.pax.begin(), member.pax.end());
    std::string records;
    for (auto const& [key, value] : member.pax) records += pax_record(key, value);
    auto x = header_of("PaxHeaders/" + member.name.substr(0, 80), 'x', records.size());
    put_octal(x, 100, 8, 0644);
    for (std::size_t const at : {108u, 116u, 329u, 337u}) put_octal(x, at, 8, 0);
    put_octal(x, 136, 12, 0);
    LCFS_TRY(out_.text(with_sum(x)));
    LCFS_TRY(out_.text(records + padding(records.size())));
  }
  return out_.text(with_sum(h));
}

std::string plain_tar_header(std::string_view name, std::uint64_t size, std::int64_t mtime) {
  auto h = header_of(name, '0', 0);
  put_octal(h, 100, 8, 0644);
  for (std::size_t const at : {108u, 116u, 329u, 337u}) put_octal(h, at, 8, 0);
  if (!put_octal(h, 124, 12, size)) {  // base-256, as GNU tar has it
    for (std::size_t i = 0; i < 11; ++i)
      h[135 - i] = static_cast<char>(i < 8 ? size >> 8 * i & 0xff : 0);
    h[124] = '\x80';
  }
  put_octal(h, 136, 12, static_cast<std::uint64_t>(std::max<std::int64_t>(mtime, 0)));
  return with_sum(h);
}

std::string tar_padding(std::uint64_t size) { return padding(size); }

}  // namespace lcfs::exporter
