// SPDX-License-Identifier: Apache-2.0
// The request that a thread is working on.  A request belongs to one thread from its arrival to its
// reply, because handlers answer before they return.  It holds what libfuse does not pass to
// handlers: flags newer than libfuse, and the memory where a reply can be built.
#pragma once

#include <linux/fuse.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace lcfs::mount {

struct Served;

// The destination of a reply: a descriptor of /dev/fuse, or an entry of a ring.
class Route {
 public:
  virtual ~Route() = default;
  // iov[0] is a fuse_out_header, the rest its body.  Returns the bytes accepted, or -errno.
  virtual ssize_t reply(iovec const* iov, int count) = 0;
};

struct Request {
  Route* route = nullptr;
  fuse_in_header const* header = nullptr;
  std::span<std::byte> message{};  // header included
  // Of a SETXATTR, whose request was cut to the size that libfuse knows.
  std::uint32_t setxattr_flags = 0;
  bool failed = false;  // the reply was an error
  // Memory in which a reply's body can be built without a copy, once the request is no longer
  // needed.
  std::span<std::byte> room{};
  std::shared_ptr<Served> served{};  // the layer of the request, once known, for its statistics

  template <class Body>
  [[nodiscard]] Body const* body() const {
    if (message.size() < sizeof(fuse_in_header) + sizeof(Body)) return nullptr;
    return reinterpret_cast<Body const*>(message.data() + sizeof(fuse_in_header));
  }
};

// The calling thread's request.  Its route is null while the thread has no request.
Request& current_request();

}  // namespace lcfs::mount
