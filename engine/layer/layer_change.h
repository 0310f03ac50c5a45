// SPDX-License-Identifier: Apache-2.0
// The frame around every changing operation of a layer: reserve, lock, mark dirty, do, account.
#pragma once

#include <cerrno>
#include <utility>

#include "engine/layer/layer_impl.h"
#include "engine/layer/worst_cases.h"
#include "engine/store/store_impl.h"

namespace lcfs {

template <class T>
Result<T> LayerImpl::end_change(Result<T> result, std::uint64_t changes_before) {
  tree_.set_payer(nullptr);
  tree_.count_nodes();
  quota_.set_own(tree_.own_blocks());
  if (!result && result.error().code != Errc::kFs && tree_.changes() != changes_before) {
    return store_.health.fail(
        std::move(result).error());  // half done: the tree must not be checkpointed
  }
  return result;
}

// op() runs with mu_ held and `blocks` reserved.  If the store is full, it makes room (outside the
// lock) and tries again.  At last it waits a moment for removed files that a server still holds:
// its client is about to report that it no longer uses them.
template <class Op>
auto LayerImpl::change(std::uint64_t blocks, Urgency urgency, Op const& op) {
  using R = decltype(op());
  for (int tries = 0;; ++tries) {
    bool const last = tries > 2 || (tries == 2 && held_.load(std::memory_order_acquire) == 0);
    bool quota = false, unflushed = false;
    {
      WriteLock lock(mu_);
      auto begun = begin_change(urgency);
      if (!begun && begun.error().code != Errc::kNoSpace) return R(std::move(begun).error());
      unflushed = files_.any();
      auto reserved =
          begun ? reserve(blocks, urgency) : Result<Reservation>(std::move(begun).error());
      quota = !reserved && reserved.error().to_errno() == EDQUOT;
      if (reserved) {
        tree_.set_payer(&*reserved);
        std::uint64_t const before = tree_.changes();
        R result = end_change(op(), before);
        bool const again =
            !result && result.error().code == Errc::kNoSpace && tree_.changes() == before && !last;
        if (!again) {
          if (result && !spill_if_large())
            return R(store_.health.fail(Error::io("cannot write nodes")));
          return result;
        }
        quota = result.error().to_errno() == EDQUOT;
      } else if (reserved.error().code != Errc::kNoSpace || last) {
        return R(std::move(reserved).error());
      }
    }
    if (tries == 2 && urgency != Urgency::kOwnRemoval)
      await_forgotten();  // forget() is such a removal, and must not wait for itself
    // Unflushed files reserve generously, small ones above all; placing their data turns that into
    // less, at little cost.  At the layer's own limit nothing else helps.
    bool const flush = quota || (tries == 0 && unflushed);
    if (auto ok = flush ? flush_now(std::nullopt) : store_.room.make(urgency); !ok)
      return R(std::move(ok).error());
  }
}

}  // namespace lcfs
