// SPDX-License-Identifier: Apache-2.0
#include "importer/layer_sink.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "format/layout.h"
#include "importer/layer_receiver.h"
#include "oci/quote.h"

namespace lcfs::importer {
namespace {

// A name needs a directory entry and a back reference, each with a slot in a leaf.
constexpr std::uint64_t kLeastPerName =
    2 * sizeof(LeafSlot) + sizeof(DirentRecord) + sizeof(ParentRecord) + 1;

Status check_xattrs(TarEntry const& entry) {
  for (auto const& [name, value] : entry.xattrs) {
    if (name.empty() || name.size() > kMaxName || name.find('\0') != std::string::npos) {
      return Error::invalid(fmt::format(
          "xattr name \"{}\" is empty, too long or contains a NUL byte", oci::printable(name)));
    }
    if (value.size() > kMaxXattr) {
      return Error::invalid(fmt::format("xattr {} has {} bytes; the maximum is {}",
                                        oci::printable(name), value.size(), kMaxXattr));
    }
  }
  return {};
}

EntryMeta meta_of(TarEntry& entry) {
  EntryMeta meta;
  meta.permissions = entry.permissions;
  meta.uid = entry.uid;
  meta.gid = entry.gid;
  meta.mtime = entry.mtime;
  meta.rdev = std::uint64_t{entry.dev_major} << 32 | entry.dev_minor;
  meta.xattrs = std::move(entry.xattrs);
  std::sort(meta.xattrs.begin(), meta.xattrs.end());  // same input, same bytes
  return meta;
}

}  // namespace

Error LayerSink::blame(TarEntry const& entry, Error error) const {
  if (error.code == Errc::kIo || error.code == Errc::kNoSpace || error.code == Errc::kInterrupted)
    return error;
  error.message = fmt::format("entry \"{}\": {}", oci::printable(entry.path), error.message);
  error.path.clear();  // the same entry, or the other end of a hard link, which the message names
  if (error.offset == kNoOffset) error.offset = entry.offset;
  return error;
}

Status LayerSink::check_room(TarEntry const& entry, oci::Whiteout const& whiteout) {
  (entry.type == TarType::kSymlink ? stored_ : kept_) += entry.link.size();
  kept_ += whiteout.path.size();
  for (auto const& [name, value] : entry.xattrs) stored_ += name.size() + value.size();
  std::uint64_t const least = ingest_.delta().entries() * kLeastPerName + stored_;
  if (least + kept_ > kMaxLayerMetadata) {
    return Error::unsupported(
        fmt::format("names and attributes of the layer exceed {} bytes", kMaxLayerMetadata));
  }
  if (least <= free_bytes_) return {};
  return Error::no_space("names and attributes of the layer need more space than is free");
}

Status LayerSink::entry(TarEntry&& entry) {
  if (auto ok = Delta::check_path(entry.path); !ok) return blame(entry, std::move(ok).error());
  auto whiteout = oci::classify_whiteout(entry.path);
  if (!whiteout) return blame(entry, std::move(whiteout).error());
  if (auto ok = check_room(entry, *whiteout); !ok) return blame(entry, std::move(ok).error());
  receiving_ = false;
  Status done;
  switch (whiteout->kind) {
    case oci::WhiteoutKind::kIgnored: break;
    case oci::WhiteoutKind::kHides: done = ingest_.delta().add_whiteout(whiteout->path); break;
    case oci::WhiteoutKind::kOpaque: done = ingest_.delta().add_opaque(whiteout->path); break;
    case oci::WhiteoutKind::kNone:
      done = check_xattrs(entry);
      if (done && entry.type == TarType::kFile) {
        ingest_.begin_content(entry.size);
        file_ = std::move(entry);
        position_ = 0;
        parts_.clear();
        receiving_ = true;
        return {};
      }
      if (done) done = add(entry);
  }
  if (!done) return blame(entry, std::move(done).error());
  return {};
}

Status LayerSink::add(TarEntry& entry) {
  Delta& delta = ingest_.delta();
  switch (entry.type) {
    case TarType::kDirectory: return delta.add_directory(entry.path, meta_of(entry));
    case TarType::kHardlink: return delta.add_hardlink(entry.path, entry.link);
    case TarType::kSymlink: return delta.add_symlink(entry.path, meta_of(entry), entry.link);
    case TarType::kCharDevice: return delta.add_special(entry.path, meta_of(entry), S_IFCHR);
    case TarType::kBlockDevice: return delta.add_special(entry.path, meta_of(entry), S_IFBLK);
    case TarType::kFifo: return delta.add_special(entry.path, meta_of(entry), S_IFIFO);
    case TarType::kFile: break;  // added by end_entry()
  }
  return {};
}

Status LayerSink::data(std::span<std::byte const> bytes) {
  if (!receiving_) return ingest_.tar_literal(bytes);
  if (parts_.empty() || parts_.back().offset + parts_.back().length != position_)
    parts_.push_back({position_, 0});
  parts_.back().length += bytes.size();
  position_ += bytes.size();
  return ingest_.append(bytes);
}

Status LayerSink::hole(std::uint64_t length) {
  position_ += length;
  return receiving_ ? ingest_.append_hole(length) : Status{};
}

Status LayerSink::other(std::span<std::byte const> bytes) { return ingest_.tar_literal(bytes); }

Status LayerSink::end_entry() {
  if (!receiving_) return {};
  receiving_ = false;
  LCFS_TRY_ASSIGN(auto const content, ingest_.end_content());
  if (auto done = ingest_.delta().add_file(file_.path, meta_of(file_), content); !done) {
    return blame(file_, std::move(done).error());
  }
  for (auto const& part : parts_) LCFS_TRY(ingest_.tar_body(part.offset, part.length));
  return {};
}

}  // namespace lcfs::importer
