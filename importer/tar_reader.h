// SPDX-License-Identifier: Apache-2.0
// A push parser for tar: v7, ustar, pax, GNU and star archives, and all four kinds of sparse files.
// It takes pieces of any size and passes file data on without a copy. Specification: POSIX.1-2017
// pax(1); GNU tar manual; tar(5) of libarchive; star(5).
//
// Why not libarchive: it converts names (character sets), drops global pax headers, cannot
// distinguish a name with a NUL from a short one, and hides the header bytes, which a bit-identical
// export needs.
//
// Where the specifications differ:
// - Unknown types are regular files, as POSIX says.  Links, devices, directories and FIFOs have no
//   data, whatever their size field says (as in GNU tar and Go), except 'D' (GNU dump directory),
//   whose data is skipped.
// - A name that ends in a slash makes '0' and NUL entries directories (v7).
// - Two blocks of zeroes end the archive; what follows is ignored.  At the end of the input one or
//   none is enough.  One followed by anything else is an error.
// - The name is the first of: GNU.sparse.name, pax path, GNU long name, header.  Per-file pax
//   records override global ones.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "format/records.h"
#include "importer/pax.h"
#include "importer/tar_header.h"

namespace lcfs::importer {

inline constexpr std::size_t kMaxTarPath = 65536;  // bytes of a path or link target

enum class TarType : std::uint8_t {
  kFile,
  kHardlink,
  kSymlink,
  kCharDevice,
  kBlockDevice,
  kDirectory,
  kFifo
};

// One entry; names are as in the archive ("./a/" and so on), without NUL bytes.
struct TarEntry {
  TarType type = TarType::kFile;
  std::string path{};
  std::string link{};              // target of a hard link or symlink
  std::uint32_t permissions = 0;   // 07777
  std::uint32_t uid = 0, gid = 0;  // at most 2^32-2
  format::Timestamp mtime{};
  std::uint32_t dev_major = 0, dev_minor = 0;
  std::uint64_t size = 0;  // of the file, holes included; 0 if it is not a file
  std::vector<std::pair<std::string, std::string>> xattrs{};  // unique; ACLs as system.posix_acl_*
  std::uint64_t offset = 0;                                   // of its first header in the archive
};

// Receives the entries.  For each: entry(), then data() and hole() in file order, which add up to
// entry.size, then end_entry().  An error stops the reader and is returned by feed().
class TarHandler {
 public:
  virtual ~TarHandler() = default;
  virtual Status entry(TarEntry&& entry) = 0;
  virtual Status data(std::span<std::byte const> bytes) = 0;  // valid during the call
  virtual Status hole(std::uint64_t length) = 0;
  virtual Status end_entry() = 0;
  // All other bytes of the archive: headers, maps, padding, skipped data and what follows the end,
  // each before the calls that result from it.  So data() and other() together, in order, are the
  // whole archive.  Valid during the call.
  virtual Status other(std::span<std::byte const> bytes) {
    (void)bytes;
    return {};
  }
};

// Not thread safe.  After an error feed() must not be called again.  Its own errors are kCorrupt or
// kUnsupported, with the offset in the archive of the invalid header or byte.
class TarReader {
 public:
  explicit TarReader(TarHandler& handler) : handler_(handler) {}

  Status feed(std::span<std::byte const> bytes);
  // The input is complete: an error if it ends inside an entry.
  Status finish();

  // Bytes ahead that are file data and padding of an entry that is not sparse.  The caller may omit
  // up to that many by skip(); data() does not get them.
  [[nodiscard]] std::uint64_t skippable() const;
  Status skip(std::uint64_t count);

  [[nodiscard]] std::uint64_t offset() const { return offset_; }  // bytes fed or skipped so far
  [[nodiscard]] bool ended() const { return state_ == State::kEnded; }

 private:
  enum class State : std::uint8_t {
    kHeader,     // a header block, or zeroes
    kMeta,       // body of x, g, L or K into meta_
    kExtension,  // a block that continues an old GNU sparse map
    kMap,        // blocks of a pax 1.0 sparse map
    kData,       // file data
    kPadding,    // up to the next block
    kEnded,
  };

  // Takes bytes from the front of `bytes` until a block is complete: in place if possible, else in
  // block_.
  std::byte const* take_block(std::span<std::byte const>& bytes);

  Status on_header(std::span<std::byte const, kTarBlock> block);
  Status on_meta_header(TarHeader const& header);
  Status on_meta(std::span<std::byte const>& bytes);
  Status apply_meta();
  Status on_entry(TarHeader const& header);
  Status fill_entry(TarHeader const& header, TarEntry& entry);
  Status fill_acls(TarEntry& entry) const;
  Status begin_file(TarHeader const& header);
  Status on_extension(std::span<std::byte const, kTarBlock> block);
  Status on_map(std::span<std::byte const, kTarBlock> block);
  Status begin_sparse_data();
  Status hand_over();  // entry() to the handler, data follows
  Status on_data(std::span<std::byte const>& bytes);
  Status end_data();
  [[nodiscard]] PaxFields const& pax() const { return has_local_ ? local_ : global_; }
  [[nodiscard]] Error at(std::uint64_t offset, Error error) const;

  TarHandler& handler_;
  State state_ = State::kHeader;
  std::uint64_t offset_ = 0;

  std::array<std::byte, kTarBlock> block_{};
  std::size_t block_fill_ = 0;
  bool zero_block_ = false;  // the block before was all zeroes

  // From the headers before an entry.
  std::uint64_t entry_offset_ = 0;
  bool in_entry_ = false;  // extended headers seen, their entry not yet
  PaxFields global_{}, local_{};
  bool has_local_ = false;
  std::string long_name_{}, long_link_{};
  bool has_long_name_ = false, has_long_link_ = false;

  char meta_type_ = 0;
  std::string meta_{};
  std::uint64_t meta_left_ = 0;

  // The entry whose data is next.
  TarEntry entry_{};
  bool skip_data_ = false;     // data to skip (volume label, dump directory)
  std::uint64_t stored_ = 0;   // bytes of data still to come
  std::uint64_t padding_ = 0;  // then this many
  bool sparse_ = false;
  std::vector<SparsePart> parts_{};
  std::size_t part_ = 0;        // the part that data goes to
  std::uint64_t position_ = 0;  // in the file

  // The text of a pax 1.0 sparse map.
  std::string map_number_{};
  std::vector<std::uint64_t> map_{};
};

}  // namespace lcfs::importer
