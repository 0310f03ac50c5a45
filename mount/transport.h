// SPDX-License-Identifier: Apache-2.0
// How requests come from the kernel and replies go back.
//
// Every transport serves one request per thread at a time: a thread that waits for a device holds
// up nobody but itself, and a reply is made by the thread that has the request.  Nothing of the
// file system's state lives here, so that a later server can go on with the same descriptor.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "format/result.h"

namespace lcfs::mount {

inline constexpr std::size_t kMaxData = 1u << 20;             // of one READ or WRITE
inline constexpr std::size_t kRequestRoom = kMaxData + 4096;  // the largest request

struct TransportOptions {
  unsigned threads = 0;   // 0: as many as suit the machine; for io_uring: per processor
  bool clone_fd = false;  // /dev/fuse: a descriptor for each thread
};

class Transport {
 public:
  // Works on one whole request, found in current_request(); replies through its route before it
  // returns.
  using Handler = std::function<void()>;

  virtual ~Transport() = default;
  [[nodiscard]] virtual char const* name() const = 0;
  [[nodiscard]] virtual bool over_io_uring() const { return false; }

  // Makes everything that can fail, before the kernel's INIT is answered: a ring that fails after
  // it was announced hangs the mount.
  virtual Status prepare() = 0;
  // INIT is answered: serves.
  virtual Status start(Handler handler) = 0;
  // Until the kernel ended the session.
  virtual void join() = 0;
};

// `fd` is the session's /dev/fuse; it stays the caller's and must outlive the transport.
std::unique_ptr<Transport> make_dev_transport(int fd, TransportOptions const& options);
std::unique_ptr<Transport> make_uring_transport(int fd, TransportOptions const& options);

// Whether this kernel offers FUSE over io_uring and it is switched on
// (/sys/module/fuse/parameters/enable_uring).
bool uring_enabled();

enum class Answer : std::uint8_t {
  kOne,
  kNothing,
  kEnded
};  // kNothing: of a descriptor that does not block
// One request of /dev/fuse into `buffer` and through `handler`.
Answer serve_from_dev(int fd, std::span<std::byte> buffer, std::span<std::byte> room,
                      Transport::Handler const& handler);

}  // namespace lcfs::mount
