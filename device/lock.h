// SPDX-License-Identifier: Apache-2.0
// The lock of a store: flock(2) on the file or device node itself, for as long as the descriptor is
// open.
//
// Why flock: it belongs to the open file, so it goes when the holder dies however it dies, and
// closing another descriptor of the same file in the process (a library that has a look at it)
// doesn't drop it, as it does with fcntl's POSIX locks.  OFD locks are as good at that, but the
// kernel records no process for them; for flock /proc/locks tells the pid.  udev and systemd honour
// flock on disks, too.  On NFS it is one lock over all clients.
//
// The pid is that of the process that took the lock.  A program that goes to the background must
// open its store after the fork; if it did before and the parent is gone, we still find the child
// by looking through /proc. The lock is advisory and bound to the inode: two device nodes for one
// disk have two locks.  What keeps writers apart there is the O_EXCL claim of block_device.h.  Who
// opens a loop device locks the file that it shows as well.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "format/result.h"

namespace lcfs {

// Takes the lock of the open file `fd`, without waiting.  kBusy if someone else holds it in a way
// that conflicts.
Status lock_store(int fd, std::string const& name, bool exclusive);

// The process that holds a lock on the file of `fd`; nothing if none does, or none that can be seen
// from here (another pid namespace, another machine).
std::optional<pid_t> lock_holder(int fd);

// kBusy, "in use by pid N", or "in use by another process".
Error in_use(std::string const& name, std::optional<pid_t> holder);

}  // namespace lcfs
