// SPDX-License-Identifier: Apache-2.0
// Counters of a layer or of the whole mount: operations by type, their latency, and bytes.
// Threads: any.  Relaxed atomics: a request costs two clock readings and four additions.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace lcfs::mount {

enum class Op : std::uint8_t {
  kLookup,
  kGetattr,
  kSetattr,
  kReadlink,
  kCreate,
  kMkdir,
  kMknod,
  kSymlink,
  kLink,
  kUnlink,
  kRmdir,
  kRename,
  kTmpfile,
  kOpen,
  kRead,
  kWrite,
  kFallocate,
  kCopyRange,
  kSeek,
  kFsync,
  kReaddir,
  kStatfs,
  kGetxattr,
  kSetxattr,
  kListxattr,
  kRemovexattr,
  kForget,
  kOther,
};
inline constexpr std::size_t kOps = static_cast<std::size_t>(Op::kOther) + 1;

[[nodiscard]] std::string_view op_name(Op op);
[[nodiscard]] Op op_of(std::uint32_t fuse_opcode);

// Histogram of latencies by powers of two: bucket b counts those below 2^b microseconds that no
// lower bucket counts; the last one counts all others.
inline constexpr std::size_t kBuckets = 22;

class Counters {
 public:
  void add(Op op, std::chrono::nanoseconds time, bool failed);
  void add_read(std::uint64_t bytes) { read_bytes_.fetch_add(bytes, std::memory_order_relaxed); }
  void add_written(std::uint64_t bytes) {
    written_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  }

  struct Snapshot {
    struct One {
      std::uint64_t count = 0, errors = 0, total_ns = 0;
      std::array<std::uint64_t, kBuckets> buckets{};
    };
    std::array<One, kOps> ops{};
    std::uint64_t read_bytes = 0, written_bytes = 0;
  };
  // Reads the counters.  `clear`: resets them atomically, so that no event is lost or counted
  // twice.
  [[nodiscard]] Snapshot take(bool clear);

 private:
  struct One {
    std::atomic<std::uint64_t> errors{0}, total_ns{0};
    // Their sum is the number of operations.
    std::array<std::atomic<std::uint64_t>, kBuckets> buckets{};
  };
  std::array<One, kOps> ops_{};
  std::atomic<std::uint64_t> read_bytes_{0}, written_bytes_{0};
};

}  // namespace lcfs::mount
