// SPDX-License-Identifier: Apache-2.0
// One layer's tree of files: the file API that the FUSE server, extract, cat and the tests call.
//
// Semantics are those of POSIX and Linux.  Ordinary answers (ENOENT, ENOTDIR ...) are Errc::kFs
// with an errno and without text (fs_error), so that they cost nothing.  Permission checks are the
// caller's job; under FUSE the kernel does them.  A frozen layer answers every change with EROFS.
// Times are set as POSIX says; only setattr changes the access time.
//
// Threads: any function from any thread.  There is one reader-writer lock per layer: reading
// functions share it, changing ones own it; no function ever takes two layers' locks.  read() looks
// under the lock and reads the device without it, so writers of the layer do not wait for it (I8).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/types.h"

namespace lcfs {

struct NewNode {
  std::uint32_t mode = 0;  // S_IFxxx and permissions, umask already applied
  std::uint32_t uid = 0, gid = 0;
  std::uint64_t rdev = 0;  // major << 32 | minor
  // (whole name, value); set together with the node, or there is no node.  At most kMaxNewXattrs;
  // E2BIG and ERANGE as for setxattr.
  std::vector<std::pair<std::string, std::string>> xattrs{};
};
inline constexpr std::size_t kMaxNewXattrs = 16;

struct SetAttr {
  std::optional<std::uint32_t> permissions{};  // 07777
  std::optional<std::uint32_t> uid{}, gid{};
  std::optional<std::uint64_t> size{};
  std::optional<Timestamp> atime{}, mtime{}, ctime{};  // ctime: now unless given
};

struct Owner {
  std::uint32_t uid = 0, gid = 0;
};

struct DirEntry {
  Inode inode = 0;
  std::uint8_t type = 0;  // DT_*
  std::string name{};
  std::uint64_t cookie = 0;  // pass to readdir() to continue behind this entry
};

enum class Rename : std::uint8_t {
  kReplace,
  kNoReplace,
  kExchange,
  kWhiteout
};  // kWhiteout: leaves a 0:0 device behind
enum class Whence : std::uint8_t { kData, kHole };
enum class XattrMode : std::uint8_t { kAny, kCreate, kReplace };
// fallocate(2).  All but the KeepSize variants extend the file.  kCollapse removes the range,
// kInsert inserts a hole: both renumber what follows, no data is moved.  Their offset and length
// are multiples of kBlockSize, else EINVAL.  EINVAL too for a collapse that reaches the end of the
// file, and for an insert at or behind it; EFBIG for an insert that makes the file too large.
enum class Allocate : std::uint8_t {
  kExtend,
  kKeepSize,
  kPunchHole,
  kZeroRange,
  kZeroRangeKeepSize,
  kCollapse,
  kInsert
};

class Layer {
 public:
  virtual ~Layer() = default;

  [[nodiscard]] virtual LayerId id() const = 0;
  [[nodiscard]] virtual Inode root() const = 0;
  [[nodiscard]] virtual bool frozen() const = 0;

  // Names and attributes.  lookup() knows "." and ".." too.
  virtual Result<Attr> lookup(Inode directory, std::string_view name) = 0;
  virtual Result<Attr> getattr(Inode inode) = 0;
  virtual Result<Attr> setattr(Inode inode, SetAttr const& set) = 0;
  virtual Result<Inode> parent_of(Inode directory) = 0;
  // All names of a file of any type: (directory, name).
  virtual Result<std::vector<std::pair<Inode, std::string>>> names_of(Inode inode) = 0;
  virtual Result<std::string> readlink(Inode inode) = 0;

  // Every type but symlinks: create, mkdir, mknod.
  virtual Result<Attr> create(Inode directory, std::string_view name, NewNode const& node) = 0;
  virtual Result<Attr> symlink(Inode directory, std::string_view name, std::string_view target,
                               NewNode const& node) = 0;
  virtual Result<Attr> link(Inode inode, Inode directory, std::string_view name) = 0;
  // Makes a file without a name (O_TMPFILE) and opens it: its last release removes it unless it was
  // linked.  While hold_unlinked() is on it is held instead of opened: forget() removes it unless
  // it was linked.
  virtual Result<Attr> tmpfile(NewNode const& node) = 0;
  virtual Status unlink(Inode directory, std::string_view name) = 0;
  virtual Status rmdir(Inode directory, std::string_view name) = 0;
  // whiteout: the owner of the 0:0 device that kWhiteout makes.
  virtual Status rename(Inode from, std::string_view name, Inode to, std::string_view new_name,
                        Rename how, Owner whiteout = {}) = 0;

  // Keep an inode alive though it has no name.  Calls are counted.
  virtual Status open(Inode inode) = 0;
  virtual Status release(Inode inode) = 0;

  // For servers whose clients do not report opens.  While it is on, an inode that loses its last
  // name is held: it can be used like any other (a tmpfile() can be linked; ENOENT for others)
  // until forget() is called with its number.  Turning it off releases all held ones.  An inode is
  // removed when it has no name, is not held and not open()ed.  Held inodes that a crash or the end
  // of the layer's object leaves are removed when the layer is next used.
  virtual Status hold_unlinked(bool on) = 0;
  // The client will not use the inode any more.  Does nothing if it is not held, and takes no lock
  // while nothing is held at all: it may be called for every inode that a kernel drops.
  virtual Status forget(Inode inode) = 0;

  // What write(2), truncate(2) and chown(2) by unprivileged users do to a regular file: clears
  // S_ISUID, S_ISGID if S_IXGRP is set, and security.capability, in one change (ctime too).  If
  // there is nothing to clear, it only looks, under the shared lock.
  virtual Status clear_privileges(Inode inode) = 0;

  // Data.  read returns fewer bytes than asked for only at the end of the file; the bytes of `into`
  // behind them are undefined.  Reading clean data that is contiguous on the device into memory
  // aligned to kBlockSize is one device read, without copying.
  virtual Result<std::size_t> read(Inode inode, std::uint64_t offset,
                                   std::span<std::byte> into) = 0;
  // Many reads at once, in the order of their places on the device, neighbours in one device read:
  // for callers that read a whole layer.  All of each `into` must lie inside its file, else EINVAL.
  // After an error the contents of all `into` are undefined.
  struct ReadRequest {
    Inode inode = 0;
    std::uint64_t offset = 0;
    std::span<std::byte> into{};
  };
  virtual Status read_many(std::span<ReadRequest const> requests) = 0;
  virtual Result<std::size_t> write(Inode inode, std::uint64_t offset,
                                    std::span<std::byte const> data) = 0;
  virtual Status allocate(Inode inode, Allocate how, std::uint64_t offset,
                          std::uint64_t length) = 0;
  virtual Result<std::uint64_t> seek(Inode inode, std::uint64_t offset,
                                     Whence whence) = 0;  // ENXIO as lseek(2)
  // copy_file_range(2): copies at most `length` bytes, fewer at the end of the source; returns how
  // many.  EISDIR, EINVAL (not a regular file; overlapping ranges of one file), EFBIG.  Where both
  // offsets are congruent modulo kBlockSize, blocks that the target's layer may inherit are shared.
  // Holes stay holes; all else is copied in pieces of at most 1 MiB.  No lock is held from one
  // piece to the next, and never those of two layers: it is as atomic as that many writes.
  virtual Result<std::uint64_t> copy_range(Inode from, std::uint64_t from_offset, Inode to,
                                           std::uint64_t to_offset, std::uint64_t length) = 0;
  // The same from a file of another layer (or this one).  EXDEV if that is in another store.
  virtual Result<std::uint64_t> copy_range(Layer& source, Inode from, std::uint64_t from_offset,
                                           Inode to, std::uint64_t to_offset,
                                           std::uint64_t length) = 0;
  // The file is flushed when it returns (by a checkpoint that all waiters share).
  virtual Status fsync(Inode inode) = 0;

  // Extended attributes, whole names.
  virtual Result<std::string> getxattr(Inode inode, std::string_view name) = 0;  // ENODATA
  virtual Status setxattr(Inode inode, std::string_view name, std::string_view value,
                          XattrMode mode) = 0;
  virtual Result<std::vector<std::string>> listxattr(Inode inode) = 0;
  virtual Status removexattr(Inode inode, std::string_view name) = 0;

  // Calls `take` for the entries behind `cookie` (0: from the start), in cookie order, until it
  // returns false.  "." and ".." are left out, and cookies are never below 256 (kFirstNameKey), so
  // 1 and 2 are free for them.  An entry that exists during the whole walk is passed exactly once,
  // whatever changes around it.  `take` is called without a lock: it may call this layer.
  virtual Status readdir(Inode directory, std::uint64_t cookie,
                         std::function<bool(DirEntry const&)> const& take) = 0;
  // readdir() with the attributes of each entry's inode, read under the same lock as the entry.
  virtual Status readdir_attrs(Inode directory, std::uint64_t cookie,
                               std::function<bool(DirEntry const&, Attr const&)> const& take) = 0;

  // The physical runs of a file, in file order: (file offset, device byte offset, bytes).  For
  // tests and `lcfs stat`.
  struct Run {
    std::uint64_t file_offset = 0, device_offset = 0, length = 0;
    LayerId owner = 0;
  };
  virtual Result<std::vector<Run>> runs(Inode inode) = 0;
};

}  // namespace lcfs
