// SPDX-License-Identifier: Apache-2.0
// Parts of the FUSE protocol that are newer than libfuse 3.14 or the <linux/fuse.h> we build with.
// Source: include/uapi/linux/fuse.h of Linux.
#pragma once

#include <cstdint>

namespace lcfs::mount {

inline constexpr std::uint32_t kOpcodeTmpfile = 51;
inline constexpr std::uint32_t kOpcodeStatx = 52;

// STATX: struct fuse_statx_out
struct StatxTime {
  std::int64_t sec;
  std::uint32_t nsec;
  std::int32_t reserved;
};
struct StatxOut {
  std::uint64_t attr_valid;
  std::uint32_t attr_valid_nsec, flags;
  std::uint64_t spare[2];
  std::uint32_t mask, blksize;
  std::uint64_t attributes;
  std::uint32_t nlink, uid, gid;
  std::uint16_t mode, spare0;
  std::uint64_t ino, size, blocks, attributes_mask;
  StatxTime atime, btime, ctime, mtime;
  std::uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
  std::uint64_t spare2[14];
};
static_assert(sizeof(StatxOut) == 288);

// INIT flags, low word
inline constexpr std::uint32_t kInitKillprivV2 = 1u << 28;
inline constexpr std::uint32_t kInitSetxattrExt = 1u << 29;
inline constexpr std::uint32_t kInitExt = 1u << 30;
// INIT flags, high word
inline constexpr std::uint32_t kInitHasResend = 1u << 7;
inline constexpr std::uint32_t kInitOverIoUring = 1u << 9;

inline constexpr std::uint32_t kSetattrKillSuidgid = 1u << 11;  // FATTR_KILL_SUIDGID
inline constexpr std::uint32_t kWriteKillSuidgid = 1u << 2;     // FUSE_WRITE_KILL_SUIDGID
inline constexpr std::uint32_t kSetxattrAclKillSgid = 1u << 0;  // FUSE_SETXATTR_ACL_KILL_SGID

}  // namespace lcfs::mount
