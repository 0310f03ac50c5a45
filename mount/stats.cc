// SPDX-License-Identifier: Apache-2.0
#include "mount/stats.h"

#include <linux/fuse.h>

#include <algorithm>
#include <bit>

#include "mount/opcodes.h"

namespace lcfs::mount {

std::string_view op_name(Op op) {
  static constexpr std::array<std::string_view, kOps> kNames = {
      "lookup",  "getattr",  "setattr",   "readlink",        "create",      "mkdir",   "mknod",
      "symlink", "link",     "unlink",    "rmdir",           "rename",      "tmpfile", "open",
      "read",    "write",    "fallocate", "copy_file_range", "lseek",       "fsync",   "readdir",
      "statfs",  "getxattr", "setxattr",  "listxattr",       "removexattr", "forget",  "other"};
  return kNames[static_cast<std::size_t>(op)];
}

Op op_of(std::uint32_t fuse_opcode) {
  switch (fuse_opcode) {
    case FUSE_LOOKUP: return Op::kLookup;
    case FUSE_GETATTR:
    case kOpcodeStatx: return Op::kGetattr;
    case FUSE_SETATTR: return Op::kSetattr;
    case FUSE_READLINK: return Op::kReadlink;
    case FUSE_CREATE: return Op::kCreate;
    case FUSE_MKDIR: return Op::kMkdir;
    case FUSE_MKNOD: return Op::kMknod;
    case FUSE_SYMLINK: return Op::kSymlink;
    case FUSE_LINK: return Op::kLink;
    case FUSE_UNLINK: return Op::kUnlink;
    case FUSE_RMDIR: return Op::kRmdir;
    case FUSE_RENAME:
    case FUSE_RENAME2: return Op::kRename;
    case kOpcodeTmpfile: return Op::kTmpfile;
    case FUSE_OPEN:
    case FUSE_OPENDIR: return Op::kOpen;
    case FUSE_READ: return Op::kRead;
    case FUSE_WRITE: return Op::kWrite;
    case FUSE_FALLOCATE: return Op::kFallocate;
    case FUSE_COPY_FILE_RANGE: return Op::kCopyRange;
    case FUSE_LSEEK: return Op::kSeek;
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
    case FUSE_SYNCFS: return Op::kFsync;
    case FUSE_READDIR:
    case FUSE_READDIRPLUS: return Op::kReaddir;
    case FUSE_STATFS: return Op::kStatfs;
    case FUSE_GETXATTR: return Op::kGetxattr;
    case FUSE_SETXATTR: return Op::kSetxattr;
    case FUSE_LISTXATTR: return Op::kListxattr;
    case FUSE_REMOVEXATTR: return Op::kRemovexattr;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET: return Op::kForget;
    default: return Op::kOther;
  }
}

void Counters::add(Op op, std::chrono::nanoseconds time, bool failed) {
  auto& one = ops_[static_cast<std::size_t>(op)];
  auto const ns = static_cast<std::uint64_t>(std::max<std::int64_t>(time.count(), 0));
  std::size_t const bucket =
      std::min<std::size_t>(static_cast<std::size_t>(std::bit_width(ns / 1000)), kBuckets - 1);
  one.buckets[bucket].fetch_add(1, std::memory_order_relaxed);
  one.total_ns.fetch_add(ns, std::memory_order_relaxed);
  if (failed) one.errors.fetch_add(1, std::memory_order_relaxed);
}

Counters::Snapshot Counters::take(bool clear) {
  auto const get = [clear](std::atomic<std::uint64_t>& counter) {
    return clear ? counter.exchange(0, std::memory_order_relaxed)
                 : counter.load(std::memory_order_relaxed);
  };
  Snapshot all;
  for (std::size_t i = 0; i < kOps; ++i) {
    auto& to = all.ops[i];
    to.errors = get(ops_[i].errors);
    to.total_ns = get(ops_[i].total_ns);
    for (std::size_t b = 0; b < kBuckets; ++b) {
      to.buckets[b] = get(ops_[i].buckets[b]);
      to.count += to.buckets[b];
    }
  }
  all.read_bytes = get(read_bytes_);
  all.written_bytes = get(written_bytes_);
  return all;
}

}  // namespace lcfs::mount
