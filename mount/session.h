// SPDX-License-Identifier: Apache-2.0
// The FUSE session with the kernel.  It joins libfuse, which implements the protocol, and a
// Transport, which carries it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "mount/mount.h"
#include "mount/transport.h"

struct fuse_session;

namespace lcfs::mount {

class Session {
 public:
  // Prepares a session; mounts nothing yet.  `mount` must outlive it.
  static Result<std::unique_ptr<Session>> make(Mount& mount);
  ~Session();  // unmounts; waits for the end of the session
  Session(Session const&) = delete;
  Session& operator=(Session const&) = delete;

  // Mounts and answers the kernel's INIT.  Requests are served when it returns.
  Status start();
  // Waits until the kernel has ended the session.
  void join();
  // Detaches the mount; the session ends when nothing of it is in use any more.  Threads: any.
  void detach();
  [[nodiscard]] std::string transport() const;  // name of the transport

  // Invalidate a name or a node in the kernel's caches.  Threads: any without a request, because
  // the kernel can hold the node's lock while it waits for the answer to one.
  void invalidate_name(NodeId directory, std::string_view name);
  void invalidate_node(NodeId node);

 private:
  explicit Session(Mount& mount) : mount_(mount) { mount.session = this; }
  static ssize_t on_write(int fd, iovec* iov, int count, void* self);
  static ssize_t on_read(int fd, void* into, std::size_t size, void* self);
  ssize_t answer_init(iovec* iov, int count);
  void handle();
  void dispatch();
  void choose_transport();

  Mount& mount_;
  fuse_session* fuse_ = nullptr;
  int fd_ = -1;
  bool mounted_ = false;
  std::unique_ptr<Transport> transport_;
  std::atomic<bool> initialized_{false};
};

}  // namespace lcfs::mount
