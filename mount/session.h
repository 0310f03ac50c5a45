// SPDX-License-Identifier: Apache-2.0
// The conversation with the kernel: libfuse speaks the protocol, a Transport carries it, and this
// joins the two.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "format/result.h"
#include "mount/mount.h"
#include "mount/transport.h"

struct fuse_session;

namespace lcfs::mount {

class Session {
 public:
  // Nothing is mounted yet.
  static Result<std::unique_ptr<Session>> make(Mount& mount);
  ~Session();  // not while requests are served
  Session(Session const&) = delete;
  Session& operator=(Session const&) = delete;

  // Mounts and answers the kernel's INIT; requests are served when it returns.
  Status start();
  // Until the kernel has ended the session.
  void join();
  // Takes the mount out of the tree of files; the session ends when nothing of it is in use any
  // more.  Any thread.
  void detach();
  [[nodiscard]] std::string transport() const;  // its name

  // Tell the kernel that what it knows is no longer so.  Any thread that has no request: the kernel
  // may have locked the node while it waits for the answer to one.
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
