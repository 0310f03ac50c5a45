// SPDX-License-Identifier: Apache-2.0
#include "importer/tar_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string_view>

#include "importer/posix_acl.h"
#include "oci/quote.h"

namespace lcfs::importer {
namespace {

constexpr std::uint64_t kMaxId = 0xfffffffe;

// Whether an error of this kind is about the bytes that were read, so that their offset helps.
bool about_input(Errc code) {
  return code == Errc::kCorrupt || code == Errc::kInvalid || code == Errc::kUnsupported;
}

std::uint64_t padding_of(std::uint64_t size) { return (kTarBlock - size % kTarBlock) % kTarBlock; }

bool all_zero(std::span<std::byte const, kTarBlock> block) {
  return std::all_of(block.begin(), block.end(), [](std::byte b) { return b == std::byte{0}; });
}

Result<std::uint32_t> to_id(Result<std::int64_t> const& number, char const* field) {
  if (!number) return number.error();
  if (*number < 0 || static_cast<std::uint64_t>(*number) > kMaxId) {
    return Error::corrupt(fmt::format("{} {} is outside 0..4294967294", field, *number));
  }
  return static_cast<std::uint32_t>(*number);
}

Result<std::uint32_t> to_device(Result<std::int64_t> const& number, char const* field) {
  if (!number) return number.error();
  if (*number < 0 || *number > std::numeric_limits<std::uint32_t>::max()) {
    return Error::corrupt(fmt::format("{} {} is out of range", field, *number));
  }
  return static_cast<std::uint32_t>(*number);
}

TarType type_of(char type) {
  switch (type) {
    case '1': return TarType::kHardlink;
    case '2': return TarType::kSymlink;
    case '3': return TarType::kCharDevice;
    case '4': return TarType::kBlockDevice;
    case '5':
    case 'D': return TarType::kDirectory;
    case '6': return TarType::kFifo;
    default: return TarType::kFile;  // '0', NUL, '7' contiguous, 'S' sparse, and unknown types
  }
}

bool is_meta(char type) {
  return type == 'x' || type == 'X' || type == 'g' || type == 'L' || type == 'K';
}

// The name in a GNU long name body: up to its NUL; more text after it would be a second name.
Result<std::string> long_name(std::string_view body) {
  std::string_view const name = body.substr(0, body.find('\0'));
  if (body.substr(name.size()).find_first_not_of('\0') != std::string_view::npos) {
    return Error::corrupt(fmt::format("name contains a NUL byte: \"{}\"", oci::printable(body)));
  }
  return std::string(name);
}

Status check_name(std::string_view name) {
  if (name.find('\0') != std::string_view::npos) {
    return Error::corrupt(fmt::format("name contains a NUL byte: \"{}\"", oci::printable(name)));
  }
  if (name.size() > kMaxTarPath)
    return Error::corrupt(fmt::format("name of {} bytes is too long", name.size()));
  return {};
}

// Parts in order, apart from each other, inside the file, and exactly as long as the data that is
// stored.
Status check_parts(std::vector<SparsePart> const& parts, std::uint64_t size, std::uint64_t stored) {
  std::uint64_t end = 0, sum = 0;
  for (auto const& part : parts) {
    if (part.offset < end || part.offset > size || part.length > size - part.offset) {
      return Error::corrupt("sparse map is out of order or exceeds the file");
    }
    end = part.offset + part.length;
    sum += part.length;
  }
  if (sum != stored)
    return Error::corrupt(
        fmt::format("sparse map covers {} bytes, but the archive has {}", sum, stored));
  return {};
}

}  // namespace

Error TarReader::at(std::uint64_t offset, Error error) const {
  error.offset = offset;
  return error;
}

std::byte const* TarReader::take_block(std::span<std::byte const>& bytes) {
  if (block_fill_ == 0 && bytes.size() >= kTarBlock) {
    auto const* block = bytes.data();
    bytes = bytes.subspan(kTarBlock);
    offset_ += kTarBlock;
    return block;
  }
  auto const n = std::min(bytes.size(), kTarBlock - block_fill_);
  if (n > 0) std::memcpy(block_.data() + block_fill_, bytes.data(), n);
  bytes = bytes.subspan(n);
  block_fill_ += n;
  offset_ += n;
  if (block_fill_ < kTarBlock) return nullptr;
  block_fill_ = 0;
  return block_.data();
}

Status TarReader::feed(std::span<std::byte const> bytes) {
  while (!bytes.empty()) {
    switch (state_) {
      case State::kHeader:
      case State::kExtension:
      case State::kMap: {
        auto const* data = take_block(bytes);
        if (data == nullptr) return {};
        std::span<std::byte const, kTarBlock> const block(data, kTarBlock);
        LCFS_TRY(handler_.other(block));
        LCFS_TRY(state_ == State::kHeader ? on_header(block)
                 : state_ == State::kMap  ? on_map(block)
                                          : on_extension(block));
        break;
      }
      case State::kMeta: LCFS_TRY(on_meta(bytes)); break;
      case State::kData: LCFS_TRY(on_data(bytes)); break;
      case State::kPadding: {
        auto const n = static_cast<std::size_t>(std::min<std::uint64_t>(padding_, bytes.size()));
        LCFS_TRY(handler_.other(bytes.first(n)));
        bytes = bytes.subspan(n);
        offset_ += n;
        padding_ -= n;
        if (padding_ == 0) state_ = State::kHeader;
        break;
      }
      case State::kEnded: offset_ += bytes.size(); return handler_.other(bytes);
    }
  }
  return {};
}

Status TarReader::finish() {
  if (state_ == State::kEnded) return {};
  if (state_ == State::kHeader && block_fill_ == 0 && !in_entry_) return {};
  return at(offset_, Error::corrupt("tar archive is cut short"));
}

std::uint64_t TarReader::skippable() const {
  if (state_ == State::kPadding) return padding_;
  if (state_ == State::kData && !sparse_) return stored_ + padding_;
  return 0;
}

Status TarReader::skip(std::uint64_t count) {
  offset_ += count;
  if (state_ == State::kData) {
    auto const n = std::min(stored_, count);
    stored_ -= n;
    count -= n;
    if (stored_ > 0) return {};
    LCFS_TRY(end_data());
  }
  if (state_ != State::kPadding) return {};
  padding_ -= count;
  if (padding_ == 0) state_ = State::kHeader;
  return {};
}

Status TarReader::on_header(std::span<std::byte const, kTarBlock> block) {
  std::uint64_t const here = offset_ - kTarBlock;
  if (block[0] == std::byte{0} && all_zero(block)) {
    if (in_entry_) return at(here, Error::corrupt("tar archive ends after an extended header"));
    if (zero_block_) state_ = State::kEnded;
    zero_block_ = true;
    return {};
  }
  if (zero_block_)
    return at(here, Error::corrupt("tar archive continues after a single block of zeroes"));
  auto const header = TarHeader::parse(block);
  if (!header) return at(here, header.error());
  if (!in_entry_) entry_offset_ = here;
  in_entry_ = true;
  auto done = is_meta(header->type()) ? on_meta_header(*header) : on_entry(*header);
  if (!done && done.error().offset == kNoOffset && about_input(done.error().code)) {
    return at(here, std::move(done).error());
  }
  return done;
}

// ---- extended headers

Status TarReader::on_meta_header(TarHeader const& header) {
  LCFS_TRY_ASSIGN(auto const size, header.size());
  if (size < 0 || static_cast<std::uint64_t>(size) > kMaxPaxHeader) {
    return Error::corrupt(
        fmt::format("extended header of {} bytes; the maximum is {}", size, kMaxPaxHeader));
  }
  meta_type_ = header.type();
  meta_.clear();
  meta_left_ = static_cast<std::uint64_t>(size);
  padding_ = padding_of(meta_left_);
  state_ = State::kMeta;
  return meta_left_ == 0 ? apply_meta() : Status{};
}

Status TarReader::on_meta(std::span<std::byte const>& bytes) {
  auto const n = static_cast<std::size_t>(std::min<std::uint64_t>(meta_left_, bytes.size()));
  LCFS_TRY(handler_.other(bytes.first(n)));
  meta_.append(reinterpret_cast<char const*>(bytes.data()), n);
  bytes = bytes.subspan(n);
  offset_ += n;
  meta_left_ -= n;
  return meta_left_ == 0 ? apply_meta() : Status{};
}

Status TarReader::apply_meta() {
  std::uint64_t const start = offset_ - meta_.size();
  auto done = [&]() -> Status {
    switch (meta_type_) {
      case 'g': return parse_pax(meta_, global_);
      case 'L': {
        LCFS_TRY_ASSIGN(long_name_, long_name(meta_));
        has_long_name_ = true;
        return {};
      }
      case 'K': {
        LCFS_TRY_ASSIGN(long_link_, long_name(meta_));
        has_long_link_ = true;
        return {};
      }
      default:
        if (!has_local_) local_ = global_;
        has_local_ = true;
        return parse_pax(meta_, local_);
    }
  }();
  if (!done) {
    auto const inside = done.error().offset == kNoOffset ? 0 : done.error().offset;
    return at(start + inside, std::move(done).error());
  }
  // The entry continues (in_entry_ stays), unless this was for the whole archive.
  if (meta_type_ == 'g' && !has_local_ && !has_long_name_ && !has_long_link_) in_entry_ = false;
  state_ = padding_ > 0 ? State::kPadding : State::kHeader;
  return {};
}

// ---- entries

Status TarReader::on_entry(TarHeader const& header) {
  entry_ = TarEntry{};
  entry_.offset = entry_offset_;
  skip_data_ = header.type() == 'V';
  if (header.type() == 'M') {
    return Error::unsupported("archive continues from another volume (type M)");
  }
  if (!skip_data_) LCFS_TRY(fill_entry(header, entry_));
  LCFS_TRY(begin_file(header));
  has_local_ = has_long_name_ = has_long_link_ = false;
  return {};
}

Status TarReader::fill_entry(TarHeader const& header, TarEntry& entry) {
  PaxFields const& extra = pax();
  entry.path = extra.path ? *extra.path : has_long_name_ ? long_name_ : header.name();
  if (extra.sparse_name) entry.path = *extra.sparse_name;
  LCFS_TRY(check_name(entry.path));
  entry.type = type_of(header.type());
  if ((header.type() == '0' || header.type() == '\0') && entry.path.ends_with('/'))
    entry.type = TarType::kDirectory;
  if (entry.type == TarType::kHardlink || entry.type == TarType::kSymlink) {
    entry.link = extra.link       ? *extra.link
                 : has_long_link_ ? long_link_
                                  : std::string(header.link());
    LCFS_TRY(check_name(entry.link));
  }
  LCFS_TRY_ASSIGN(auto const mode, header.mode());
  entry.permissions = static_cast<std::uint32_t>(mode & 07777);
  if (extra.uid) {
    entry.uid = *extra.uid;
  } else {
    LCFS_TRY_ASSIGN(entry.uid, to_id(header.uid(), "uid"));
  }
  if (extra.gid) {
    entry.gid = *extra.gid;
  } else {
    LCFS_TRY_ASSIGN(entry.gid, to_id(header.gid(), "gid"));
  }
  if (extra.mtime) {
    entry.mtime = *extra.mtime;
  } else {
    LCFS_TRY_ASSIGN(entry.mtime.sec, header.mtime());
  }
  if (entry.type == TarType::kCharDevice || entry.type == TarType::kBlockDevice) {
    LCFS_TRY_ASSIGN(entry.dev_major, to_device(header.dev_major(), "device major number"));
    LCFS_TRY_ASSIGN(entry.dev_minor, to_device(header.dev_minor(), "device minor number"));
  }
  entry.xattrs = extra.xattrs;
  return fill_acls(entry);
}

Status TarReader::fill_acls(TarEntry& entry) const {
  auto const add = [this, &entry](std::optional<std::string> const& text,
                                  char const* name) -> Status {
    if (!text) return {};
    auto const same = [name](auto const& x) { return x.first == name; };
    if (std::any_of(entry.xattrs.begin(), entry.xattrs.end(), same))
      return {};  // the xattr itself takes precedence
    LCFS_TRY_ASSIGN(auto value, acl_xattr(*text));
    if (value.empty()) return {};
    if (&text == &pax().acl_access)
      entry.permissions = (entry.permissions & ~0777u) | acl_permissions(value);
    entry.xattrs.emplace_back(name, std::move(value));
    return {};
  };
  LCFS_TRY(add(pax().acl_access, "system.posix_acl_access"));
  return add(pax().acl_default, "system.posix_acl_default");
}

// How much data follows the header, and whether it has a map of holes.
Status TarReader::begin_file(TarHeader const& header) {
  PaxFields const& extra = pax();
  bool const has_data = skip_data_ || entry_.type == TarType::kFile || header.type() == 'D' ||
                        header.type() == '0' || header.type() == '\0';
  stored_ = 0;
  if (has_data) {
    LCFS_TRY_ASSIGN(auto const in_header,
                    extra.size ? Result<std::int64_t>(std::int64_t{0}) : header.size());
    stored_ = extra.size ? *extra.size : static_cast<std::uint64_t>(in_header);
    if (in_header < 0 || stored_ > format::kMaxFileSize)
      return Error::corrupt("size is negative or too large");
  }
  padding_ = padding_of(stored_);
  sparse_ = false;
  parts_.clear();
  part_ = 0;
  position_ = 0;
  if (skip_data_ || entry_.type != TarType::kFile) {
    skip_data_ = skip_data_ || stored_ > 0;
    return hand_over();
  }
  entry_.size = stored_;
  if (header.type() == 'S') {
    LCFS_TRY_ASSIGN(auto const size,
                    extra.sparse_size
                        ? Result<std::int64_t>(static_cast<std::int64_t>(*extra.sparse_size))
                        : header.sparse_size());
    if (size < 0 || static_cast<std::uint64_t>(size) > format::kMaxFileSize)
      return Error::corrupt("size of a sparse file is out of range");
    entry_.size = static_cast<std::uint64_t>(size);
    LCFS_TRY(header.sparse_parts(parts_));
    state_ = State::kExtension;
    return header.sparse_extended() ? Status{} : begin_sparse_data();
  }
  if (extra.sparse_1_0()) {
    entry_.size = *extra.sparse_size;
    map_.clear();
    map_number_.clear();
    state_ = State::kMap;
    return stored_ > 0 ? Status{} : Status(Error::corrupt("sparse file without a sparse map"));
  }
  if (extra.sparse_has_map && extra.sparse_size) {
    entry_.size = *extra.sparse_size;
    parts_ = extra.sparse_parts;
    return begin_sparse_data();
  }
  return hand_over();
}

// ---- sparse maps

Status TarReader::on_extension(std::span<std::byte const, kTarBlock> block) {
  std::uint64_t const here = offset_ - kTarBlock;
  auto const more = parse_sparse_extension(block, parts_);
  if (!more) return at(here, more.error());
  if (parts_.size() > kMaxSparseParts)
    return at(here, Error::corrupt("sparse map has too many parts"));
  if (*more) return {};
  return begin_sparse_data();
}

// pax 1.0: the data starts with decimal numbers, one a line: how many parts, then offset and length
// of each.
Status TarReader::on_map(std::span<std::byte const, kTarBlock> block) {
  std::uint64_t const here = offset_ - kTarBlock;
  if (stored_ < kTarBlock) return at(here, Error::corrupt("sparse map is cut short"));
  stored_ -= kTarBlock;
  for (std::byte const b : block) {
    char const c = static_cast<char>(b);
    if (c != '\n') {
      map_number_ += c;
      if (map_number_.size() > 20) return at(here, Error::corrupt("damaged sparse map"));
      continue;
    }
    auto const number = parse_decimal(map_number_, format::kMaxFileSize);
    if (!number) return at(here, Error::corrupt("damaged sparse map"));
    if (map_.empty() && *number > kMaxSparseParts)
      return at(here, Error::corrupt("sparse map has too many parts"));
    map_.push_back(*number);
    map_number_.clear();
    if (map_.size() == 1 + 2 * map_[0]) {
      for (std::size_t i = 1; i < map_.size(); i += 2) parts_.push_back({map_[i], map_[i + 1]});
      return begin_sparse_data();
    }
  }
  if (stored_ == 0) return at(here, Error::corrupt("sparse map is cut short"));
  return {};
}

Status TarReader::begin_sparse_data() {
  // Parts without data only say where the file ends.
  std::erase_if(parts_, [](SparsePart const& p) { return p.length == 0; });
  auto const ok = check_parts(parts_, entry_.size, stored_);
  if (!ok) return at(entry_offset_, ok.error());
  sparse_ = true;
  return hand_over();
}

// ---- data

Status TarReader::hand_over() {
  state_ = State::kData;
  std::uint64_t const size = entry_.size;
  if (!skip_data_ || entry_.type == TarType::kDirectory) {
    LCFS_TRY(handler_.entry(std::move(entry_)));
  }
  entry_.size = size;
  return stored_ == 0 ? end_data() : Status{};
}

Status TarReader::on_data(std::span<std::byte const>& bytes) {
  if (stored_ == 0) return end_data();
  std::uint64_t most = std::min<std::uint64_t>(stored_, bytes.size());
  if (sparse_) {
    auto const& part = parts_[part_];
    if (position_ < part.offset) LCFS_TRY(handler_.hole(part.offset - position_));
    position_ = std::max(position_, part.offset);
    most = std::min(most, part.offset + part.length - position_);
  }
  auto const n = static_cast<std::size_t>(most);
  LCFS_TRY(skip_data_ ? handler_.other(bytes.first(n)) : handler_.data(bytes.first(n)));
  bytes = bytes.subspan(n);
  offset_ += n;
  stored_ -= n;
  position_ += n;
  if (sparse_ && position_ == parts_[part_].offset + parts_[part_].length) ++part_;
  return stored_ == 0 ? end_data() : Status{};
}

Status TarReader::end_data() {
  if (sparse_ && position_ < entry_.size) LCFS_TRY(handler_.hole(entry_.size - position_));
  if (!skip_data_ || entry_.type == TarType::kDirectory) LCFS_TRY(handler_.end_entry());
  in_entry_ = false;
  state_ = padding_ > 0 ? State::kPadding : State::kHeader;
  return {};
}

}  // namespace lcfs::importer
