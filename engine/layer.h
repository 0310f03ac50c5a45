// SPDX-License-Identifier: Apache-2.0
// One layer's tree of files: the file API that the FUSE server, extract, cat and the tests call.
//
// Semantics are POSIX's and Linux's; errors of the file system kind are Errc::kFs with an errno (fs_error), so that they cost nothing.
// Permission checks are the caller's job (the kernel does them under FUSE).  Frozen layers answer every change with EROFS.
// Times are set as POSIX says; atime only by setattr.
//
// Threads: any function from any thread.  One reader-writer lock per layer (Layer::mu_): reading functions share it, changing ones
// own it; no function ever takes two layers' locks.  Device reads of a layer's own data happen under its own lock only (I8).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/types.h"

namespace lcfs {

struct NewNode {
  std::uint32_t mode = 0;  // S_IFxxx and permissions, umask already applied
  std::uint32_t uid = 0, gid = 0;
  std::uint64_t rdev = 0;  // major << 32 | minor
};

struct SetAttr {
  std::optional<std::uint32_t> permissions{};  // 07777
  std::optional<std::uint32_t> uid{}, gid{};
  std::optional<std::uint64_t> size{};
  std::optional<Timestamp> atime{}, mtime{}, ctime{};  // ctime: now unless given
};

struct DirEntry {
  Inode inode = 0;
  std::uint8_t type = 0;      // DT_*
  std::string name{};
  std::uint64_t cookie = 0;   // pass to readdir() to go on behind this entry
};

enum class Rename : std::uint8_t { kReplace, kNoReplace, kExchange, kWhiteout };  // kWhiteout: leaves a 0:0 device behind
enum class Whence : std::uint8_t { kData, kHole };
enum class XattrMode : std::uint8_t { kAny, kCreate, kReplace };
// fallocate(2): extend unless kKeepSize variants.
enum class Allocate : std::uint8_t { kExtend, kKeepSize, kPunchHole, kZeroRange, kZeroRangeKeepSize };

class Layer {
 public:
  virtual ~Layer() = default;

  [[nodiscard]] virtual LayerId id() const = 0;
  [[nodiscard]] virtual Inode root() const = 0;
  [[nodiscard]] virtual bool frozen() const = 0;

  // Names and attributes.  "." and ".." are answered too.
  virtual Result<Attr> lookup(Inode directory, std::string_view name) = 0;
  virtual Result<Attr> getattr(Inode inode) = 0;
  virtual Result<Attr> setattr(Inode inode, SetAttr const& set) = 0;
  virtual Result<Inode> parent_of(Inode directory) = 0;
  virtual Result<std::string> readlink(Inode inode) = 0;

  // Every type but symlinks: create, mkdir, mknod.
  virtual Result<Attr> create(Inode directory, std::string_view name, NewNode const& node) = 0;
  virtual Result<Attr> symlink(Inode directory, std::string_view name, std::string_view target, NewNode const& node) = 0;
  virtual Result<Attr> link(Inode inode, Inode directory, std::string_view name) = 0;
  // A file without a name (O_TMPFILE); removed at its last release unless linked.
  virtual Result<Attr> tmpfile(NewNode const& node) = 0;
  virtual Status unlink(Inode directory, std::string_view name) = 0;
  virtual Status rmdir(Inode directory, std::string_view name) = 0;
  virtual Status rename(Inode from, std::string_view name, Inode to, std::string_view new_name, Rename how) = 0;

  // Keep an inode alive though it has no name: counted.
  virtual Status open(Inode inode) = 0;
  virtual Status release(Inode inode) = 0;

  // Data.  read returns fewer bytes than asked only at the end of the file.
  virtual Result<std::size_t> read(Inode inode, std::uint64_t offset, std::span<std::byte> into) = 0;
  virtual Result<std::size_t> write(Inode inode, std::uint64_t offset, std::span<std::byte const> data) = 0;
  virtual Status allocate(Inode inode, Allocate how, std::uint64_t offset, std::uint64_t length) = 0;
  virtual Result<std::uint64_t> seek(Inode inode, std::uint64_t offset, Whence whence) = 0;  // ENXIO as lseek(2)
  virtual Status fsync(Inode inode) = 0;  // durable when it returns (a checkpoint, shared by all waiters)

  // Extended attributes, whole names.
  virtual Result<std::string> getxattr(Inode inode, std::string_view name) = 0;  // ENODATA
  virtual Status setxattr(Inode inode, std::string_view name, std::string_view value, XattrMode mode) = 0;
  virtual Result<std::vector<std::string>> listxattr(Inode inode) = 0;
  virtual Status removexattr(Inode inode, std::string_view name) = 0;

  // Calls `take` for entries behind `cookie` (0: from the start) in cookie order until it returns false.  "." and ".." are not
  // told.  An entry that exists during the whole walk is told exactly once, whatever changes around it.
  virtual Status readdir(Inode directory, std::uint64_t cookie, std::function<bool(DirEntry const&)> const& take) = 0;

  // The physical runs of a file, in file order: (file offset, device byte offset, bytes).  For tests and `lcfs stat`.
  struct Run {
    std::uint64_t file_offset = 0, device_offset = 0, length = 0;
    LayerId owner = 0;
  };
  virtual Result<std::vector<Run>> runs(Inode inode) = 0;
};

}  // namespace lcfs
