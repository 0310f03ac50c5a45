// SPDX-License-Identifier: Apache-2.0
// Whether the store may be changed: it was opened for writing, and nothing has failed since.
//
// Threads: any function from any thread.  mu_ guards the reason of a failure; asking whether there
// was one takes no lock.
#pragma once

#include <atomic>
#include <optional>

#include "device/device.h"
#include "engine/locks/lock_order.h"
#include "engine/types.h"

namespace lcfs {

class Health {
 public:
  // The device must outlive this; it only lends its name to errors.
  Health(Device const& device, bool read_only) : device_(device), read_only_(read_only) {}

  // The store becomes read-only; the last durable checkpoint stays in force.  Keeps the first
  // reason.  Returns `why` for the caller to return.
  Error fail(Error why) LCFS_EXCLUDES(mu_);
  // kReadOnly (EROFS): opened read-only, or failed.
  Status check_writable() const LCFS_EXCLUDES(mu_);
  // Why the store failed, if it did.
  [[nodiscard]] std::optional<Error> failure() const LCFS_EXCLUDES(mu_);

 private:
  Device const& device_;
  bool const read_only_;
  std::atomic<bool> failed_{false};  // set once, after why_
  mutable Mutex mu_ LCFS_LEVEL(health);
  std::optional<Error> why_ LCFS_GUARDED_BY(mu_);
};

}  // namespace lcfs
