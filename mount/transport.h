// SPDX-License-Identifier: Apache-2.0
// A transport carries requests from the kernel and replies back to it.
//
// Every transport serves one request per thread at a time: a thread that waits for a device delays
// no other request, and the thread that has a request makes its reply.  A transport holds no state
// of the file system, so that a later server can continue with the same descriptor.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "base/result.h"

namespace lcfs::mount {

inline constexpr std::size_t kMaxData = 1u << 20;             // bytes of one READ or WRITE
inline constexpr std::size_t kRequestRoom = kMaxData + 4096;  // bytes of the largest request

struct TransportOptions {
  unsigned threads = 0;   // for io_uring: per processor.  0: a number that suits the machine
  bool clone_fd = false;  // each thread has its own descriptor of /dev/fuse
};

class Transport {
 public:
  // Handles current_request(), which is complete, and replies through its route before it returns.
  using Handler = std::function<void()>;

  virtual ~Transport() = default;
  [[nodiscard]] virtual char const* name() const = 0;
  [[nodiscard]] virtual bool over_io_uring() const { return false; }

  // Does everything that can fail, before the kernel's INIT is answered: a ring that fails after it
  // was announced hangs the mount.
  virtual Status prepare() = 0;
  // Starts to serve.  Call it after INIT is answered.
  virtual Status start(Handler handler) = 0;
  // Waits until the kernel has ended the session.
  virtual void join() = 0;
};

// `fd` is the session's descriptor of /dev/fuse; it stays the caller's and must outlive the
// transport.
std::unique_ptr<Transport> make_dev_transport(int fd, TransportOptions const& options);
std::unique_ptr<Transport> make_uring_transport(int fd, TransportOptions const& options);

// Whether this kernel offers FUSE over io_uring and has it enabled
// (/sys/module/fuse/parameters/enable_uring).
bool uring_enabled();

enum class Answer : std::uint8_t {
  kOne,
  kNothing,
  kEnded
};  // kNothing: no request, on a non-blocking descriptor
// Reads one request of /dev/fuse into `buffer` and passes it to `handler`.  `room`: memory for the
// body of its reply.
Answer serve_from_dev(int fd, std::span<std::byte> buffer, std::span<std::byte> room,
                      Transport::Handler const& handler);

}  // namespace lcfs::mount
