// SPDX-License-Identifier: Apache-2.0
// What a mount was asked for: pure data, and its parser from the comma list of mount(8)'s -o.
//
//   ro rw suid nosuid dev nodev exec noexec sync async dirsync   the VFS' own
//   noatime relatime strictatime atime nodiratime diratime
//   allow_other, default_permissions                             accepted, they are always so
//   (allow_other: for root) layer=NAME          that layer is the root of the mount; else each
//   layer is a directory transport=auto|dev|uring threads=N           1..256 clone_fd no_clone_fd,
//   writeback no_writeback node_cache=SIZE, dirty=SIZE    memory for clean nodes, for data not yet
//   written checkpoint=SECONDS  between two checkpoints, 1..3600 no_pseudo           without the
//   pseudo files no_killpriv_v2      the kernel asks before each write what it takes away of a
//   file's privileges: for uppers of overlayfs no_verify           data checksums aren't checked on
//   read control=yes|no      the control socket remount             only the VFS' flags of a mount
//   that is there are changed; to ask for others than it has is an error
// Of two that contradict each other the later counts.  What fstab(5) holds for others (_netdev,
// nofail, auto, user, x-*, comment=...) is skipped; anything else is an error, unless mount(8) said
// -s.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "format/result.h"

namespace lcfs::mount {

enum class TransportKind : std::uint8_t { kAuto, kDev, kUring };

// Which reads move a file's time of access.
enum class Atime : std::uint8_t {
  kNever,     // noatime: also where nothing was asked for
  kRelative,  // relatime: if it is older than the last change, or than a day
  kAlways,    // strictatime, atime
};

// The VFS' flags (MS_RDONLY, MS_NOSUID, ... of mount(2)) that were named.  Both zero: nothing was
// said about them.
struct VfsFlags {
  unsigned long set = 0;
  unsigned long cleared = 0;
  [[nodiscard]] bool has(unsigned long flag) const { return (set & flag) != 0; }
  // `before`, changed by what was said.
  [[nodiscard]] unsigned long over(unsigned long before) const { return (before & ~cleared) | set; }
};

struct MountOptions {
  std::string store{};  // absolute path of a file or block device; the mount's source (fsname) in
                        // /proc/mounts
  std::string directory{};  // where; absolute
  std::string layer{};      // the root of the mount; empty: every layer is a directory of it
  std::uint64_t at = 0;     // a kept checkpoint, shown read-only; 0: the store as it is
  bool foreground = false;
  bool verbose = false;

  VfsFlags vfs{};
  Atime atime = Atime::kNever;
  bool allow_other = false;  // asked for; root's mounts are open to others anyway
  TransportKind transport = TransportKind::kAuto;
  unsigned threads = 0;                       // 0: as many as suit the machine
  std::optional<bool> clone_fd{};             // none: the transport's choice
  std::optional<bool> writeback{};            // none: the server's choice
  std::optional<std::uint64_t> node_cache{};  // bytes; none: OpenOptions' own
  std::optional<std::uint64_t> dirty_data{};  // bytes; none: OpenOptions' own
  std::optional<unsigned> checkpoint{};       // seconds; none: the server's choice
  bool pseudo = true;
  bool verify_data = true;
  bool killpriv_v2 = true;
  bool remount = false;
  bool all_flags = false;  // remount: flags of the VFS that weren't named are off, as mount(8)
                           // means it; else they stay as they are

  bool control = true;
  std::string
      control_socket{};  // where the control socket goes (control_socket_path()); empty: none

  [[nodiscard]] bool read_only() const;
};

// Adds what the comma list says to `options`.  `sloppy`: what nobody knows is skipped.  Errors:
// kInvalid, and nothing has changed.
Status parse_options(std::string_view list, bool sloppy, MountOptions& options);

// What the server of a mount was asked for beyond the VFS' flags, for parse_options().
std::string own_text(MountOptions const& options);
// A remount asks for `asked` of a server that has `had`: the name of an option that would have to
// change; empty: none.
std::string fixed_change(MountOptions const& asked, MountOptions const& had);

// The VFS' part as libfuse and mount(8) spell it: "rw,suid,dev" and what was named.  suid and dev
// are said unless their opposites were, for libfuse would leave them out.
std::string vfs_text(MountOptions const& options);

// The MS_ flags that the options field of a line of /proc/self/mountinfo shows.
unsigned long vfs_flags_of(std::string_view shown);

}  // namespace lcfs::mount
