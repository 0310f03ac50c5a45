// SPDX-License-Identifier: Apache-2.0
// The lock of a store: flock(2) on the file or device node itself, for as long as the descriptor is
// open.
//
// Why flock: it belongs to the open file, so it ends with its holder, however the holder dies; and
// closing another descriptor of the same file in the process (by a library that looks at it) does
// not drop it, unlike POSIX locks of fcntl.  OFD locks have both properties too, but /proc/locks
// shows no process for them.  udev and systemd also honour flock on disks.  On NFS the lock holds
// for all clients.
//
// The pid is that of the process that took the lock.  A program that goes to the background must
// open its store after the fork; if it did before and the parent is gone, we still find the child
// by looking through /proc. The lock is advisory and bound to the inode: two device nodes for one
// disk have two locks.  There the O_EXCL claim of block_device.h keeps writers apart.
// Opening a loop device also locks its backing file.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "base/result.h"

namespace lcfs::device {

// Takes the lock of the open file `fd`, without waiting.  kBusy if a conflicting lock is held.
Status lock_store(int fd, std::string const& name, bool exclusive);

// The process that holds a lock on the file of `fd`; nothing if there is none or it is not visible
// (another pid namespace, another machine).
std::optional<pid_t> lock_holder(int fd);

// kBusy, "in use by pid N", or "in use by another process".
Error in_use(std::string const& name, std::optional<pid_t> holder);

}  // namespace lcfs::device
