// SPDX-License-Identifier: Apache-2.0
// Image archives as a set of named members, whether in a tar file, in a directory or from a pipe.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace lcfs::importer {

// Members by name.  Names are compared without leading "/" and "./"; a later member of a name
// replaces an earlier one. Links are followed inside the archive.
class MemberTable {
 public:
  struct Member {
    std::uint64_t offset = 0;  // of the data in the file, or a number for the owner of the table
    std::uint64_t size = 0;
    std::string link{};  // not empty: a symlink or hard link to this (normalized) name
  };

  static std::string normalize(std::string_view path);

  Status add(std::string_view name, Member member);  // kUnsupported: too many
  Status add_symlink(std::string_view name, std::string_view target);
  Status add_hardlink(std::string_view name, std::string_view target);

  // Null: no such member, or a link that is dangling or circular.
  [[nodiscard]] Member const* find(std::string_view name) const;
  [[nodiscard]] bool empty() const { return members_.empty(); }

 private:
  std::map<std::string, Member, std::less<>> members_;
  std::size_t name_bytes_ = 0;
};

// What the planner needs.  Errors name archive and member.
class Archive {
 public:
  virtual ~Archive() = default;
  [[nodiscard]] virtual std::string const& name() const = 0;
  // Size of a member; nothing if there is none.
  [[nodiscard]] virtual std::optional<std::uint64_t> size(std::string_view member) const = 0;
  // All of a member: kNotFound "not in the archive", kUnsupported over 16 MiB.
  virtual Result<std::string> document(std::string_view member) = 0;
};

// Bytes of a file.  Reading is thread safe.
struct Range {
  std::shared_ptr<Fd const> file{};
  std::uint64_t offset = 0, size = 0;

  // Reads exactly into.size() bytes from `at` on; kCorrupt "cut short" if the file ends before.
  Status read(std::uint64_t at, std::span<std::byte> into) const;
};

// An archive whose members can be read in any order, by several threads.
class SeekableArchive : public Archive {
 public:
  Result<std::string> document(std::string_view member) override;
  virtual Result<Range> open(std::string_view member) = 0;
};

// `file` is an uncompressed tar of `size` bytes: reads all its headers, none of its data.
Result<std::unique_ptr<SeekableArchive>> open_tar_archive(Fd file, std::uint64_t size,
                                                          std::string name,
                                                          std::atomic<bool> const* stop);
// `directory` is open.
Result<std::unique_ptr<SeekableArchive>> open_directory_archive(Fd directory, std::string name);

}  // namespace lcfs::importer
