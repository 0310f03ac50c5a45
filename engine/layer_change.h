// SPDX-License-Identifier: Apache-2.0
// The frame around every changing operation of a layer: reserve, lock, mark dirty, do, account.
#pragma once

#include <utility>

#include "engine/layer_impl.h"
#include "engine/store_impl.h"

namespace lcfs {

// Worst case of blocks that one name operation takes: up to eight records in different leaves, each with a path of its own
// and a split.
inline constexpr std::uint64_t kOperationBlocks = 192;

template <class T>
Result<T> LayerImpl::end_change(Result<T> result, std::uint64_t changes_before) {
  space_.set_payer(nullptr);
  count_nodes();
  if (!result && result.error().code != Errc::kFs && tree_.changes() != changes_before) {
    return store_.fail(std::move(result).error());  // half done: the tree must not be checkpointed
  }
  return result;
}

// op() runs with mu_ held and `blocks` promised.  If the store is full, room is made once (outside the lock), then again.
template <class Op>
auto LayerImpl::change(std::uint64_t blocks, Urgency urgency, Op const& op) {
  using R = decltype(op());
  for (int tries = 0;; ++tries) {
    {
      WriteLock lock(mu_);
      if (auto ok = begin_change(); !ok) return R(std::move(ok).error());
      auto promise = Reservation::make(store_.space, blocks, urgency);
      if (promise) {
        space_.set_payer(&*promise);
        std::uint64_t const before = tree_.changes();
        R result = end_change(op(), before);
        bool const again = !result && result.error().code == Errc::kNoSpace && tree_.changes() == before && tries < 2;
        if (!again) {
          if (result && !spill_if_large()) return R(store_.fail(Error{Errc::kIo, "cannot write nodes"}));
          return result;
        }
      } else if (promise.error().code != Errc::kNoSpace || tries >= 2) {
        return R(std::move(promise).error());
      }
    }
    if (auto ok = store_.make_room(); !ok) return R(std::move(ok).error());
  }
}

}  // namespace lcfs
