// SPDX-License-Identifier: Apache-2.0
// The request that a thread is working on.  One request belongs to one thread from its arrival to
// its reply: handlers answer before they return.  What libfuse does not pass on (flags younger than
// it, the place where a reply can be built) is here.
#pragma once

#include <linux/fuse.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace lcfs::mount {

struct Served;

// Where a reply goes: a descriptor of /dev/fuse, or an entry of a ring.
class Route {
 public:
  virtual ~Route() = default;
  // iov[0] is a fuse_out_header, the rest its body.  Bytes taken, or -errno.
  virtual ssize_t reply(iovec const* iov, int count) = 0;
};

struct Request {
  Route* route = nullptr;
  fuse_in_header const* header = nullptr;
  std::span<std::byte> message{};    // header included
  std::uint32_t setxattr_flags = 0;  // of a SETXATTR, whose request was cut to what libfuse knows
  // A reply's body can be built here without a copy, once nothing of the request is needed any
  // more.
  bool failed = false;  // the reply told an error
  std::span<std::byte> room{};
  std::shared_ptr<Served> served{};  // the layer it was for, once known: its statistics get it

  template <class Body>
  [[nodiscard]] Body const* body() const {
    if (message.size() < sizeof(fuse_in_header) + sizeof(Body)) return nullptr;
    return reinterpret_cast<Body const*>(message.data() + sizeof(fuse_in_header));
  }
};

// The calling thread's request.  Outside of one its route is null.
Request& current_request();

}  // namespace lcfs::mount
