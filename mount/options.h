// SPDX-License-Identifier: Apache-2.0
// The options of a mount: plain data, and the parser of the comma-separated list of mount(8)'s -o.
// Specification: man/lcfs-mount.8.  In short:
//
//   ro rw suid nosuid dev nodev exec noexec sync async dirsync   flags of the VFS
//   noatime relatime strictatime atime nodiratime diratime       updates of access times
//   allow_other default_permissions    accepted; always on (allow_other: for root)
//   layer=NAME                         the root of the mount; without it, each layer is a directory
//   at=GENERATION                      the restore point to show
//   transport=auto|dev|uring  threads=N (1..256)  clone_fd no_clone_fd
//   writeback no_writeback             whether the kernel caches writes
//   node_cache=SIZE dirty=SIZE         memory for clean nodes, and for data not yet written
//   checkpoint=SECONDS                 between two checkpoints, 1..3600
//   no_pseudo                          without the files below .lcfs
//   no_killpriv_v2                     the kernel clears privileges before writes; for overlayfs
//   no_verify                          do not check data checksums on read
//   control=yes|no                     the control socket
//   remount                            change the VFS flags of an existing mount; another value of
//                                      any other option is an error
// Of two contradicting options the later one applies.  Options that fstab(5) reserves for others
// (_netdev, nofail, auto, user, x-*, comment=...) are ignored.  Any other option is an error,
// unless mount(8) passed -s.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace lcfs::mount {

enum class TransportKind : std::uint8_t { kAuto, kDev, kUring };

// When reads update a file's access time.
enum class Atime : std::uint8_t {
  kNever,     // noatime, and the default
  kRelative,  // relatime: if it is older than the last change, or than a day
  kAlways,    // strictatime, atime
};

// The VFS flags (MS_RDONLY, MS_NOSUID, ... of mount(2)) that were given.  A flag in neither set was
// not given.
struct VfsFlags {
  unsigned long set = 0;
  unsigned long cleared = 0;
  [[nodiscard]] bool has(unsigned long flag) const { return (set & flag) != 0; }
  // `before` with these changes applied.
  [[nodiscard]] unsigned long over(unsigned long before) const { return (before & ~cleared) | set; }
};

struct MountOptions {
  std::string store{};  // absolute path of a file or block device; the mount's source (fsname) in
                        // /proc/mounts
  std::string directory{};  // the mount point; absolute
  std::string layer{};      // the root of the mount; empty: every layer is a directory
  std::uint64_t at = 0;     // the restore point to show read-only; 0: the current state
  bool foreground = false;
  bool verbose = false;

  VfsFlags vfs{};
  Atime atime = Atime::kNever;
  bool allow_other = false;  // given; root's mounts always allow other users
  TransportKind transport = TransportKind::kAuto;
  unsigned threads = 0;                       // 0: a number that suits the machine
  std::optional<bool> clone_fd{};             // unset: the transport chooses
  std::optional<bool> writeback{};            // unset: the server chooses
  std::optional<std::uint64_t> node_cache{};  // bytes; unset: default of OpenOptions
  std::optional<std::uint64_t> dirty_data{};  // bytes; unset: default of OpenOptions
  std::optional<unsigned> checkpoint{};       // seconds; unset: the server chooses
  bool pseudo = true;
  bool verify_data = true;
  bool killpriv_v2 = true;
  bool remount = false;
  bool all_flags = false;  // remount: clear VFS flags that were not given, as mount(8) expects;
                           // else they stay as they are

  bool control = true;
  std::string control_socket{};  // path of the control socket (control_socket_path()); empty: none

  [[nodiscard]] bool read_only() const;
};

// Adds the comma-separated list to `options`.  `sloppy`: ignores unknown options.  On an error
// (kInvalid) `options` is unchanged.
Status parse_options(std::string_view list, bool sloppy, MountOptions& options);

// The options other than VFS flags, as a list for parse_options().
std::string own_text(MountOptions const& options);
// The first option that a remount with `asked` would have to change in a server that was started
// with `had`, and cannot; empty if there is none.
std::string fixed_change(MountOptions const& asked, MountOptions const& had);

// The VFS flags as libfuse and mount(8) spell them: "rw,suid,dev" and those that were given.  suid
// and dev are explicit unless their opposites were given, because libfuse's default is the
// opposite.
std::string vfs_text(MountOptions const& options);

// The MS_ flags in the options field of a line of /proc/self/mountinfo.
unsigned long vfs_flags_of(std::string_view shown);

}  // namespace lcfs::mount
