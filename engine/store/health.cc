// SPDX-License-Identifier: Apache-2.0
#include "engine/store/health.h"

#include <cerrno>

namespace lcfs {

Error Health::fail(Error why) {
  Lock lock(mu_);
  if (!why_) {
    why_ = why;
    failed_.store(true, std::memory_order_release);
  }
  return why;
}

Status Health::check_writable() const {
  if (failed_.load(std::memory_order_acquire)) {
    Lock lock(mu_);
    return Error::read_only("the store became read-only: " + why_->text()).in(device_.name());
  }
  if (read_only_) return Error::read_only("the store is open read-only").in(device_.name());
  return {};
}

std::optional<Error> Health::failure() const {
  Lock lock(mu_);
  return why_;
}

}  // namespace lcfs
