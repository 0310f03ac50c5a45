// SPDX-License-Identifier: Apache-2.0
// The frame around every changing operation of a layer: reserve, lock, mark dirty, do, account.
#pragma once

#include <cerrno>
#include <utility>

#include "engine/layer_impl.h"
#include "engine/store_impl.h"

namespace lcfs {

// Worst case of blocks that one name operation takes: up to eight records in different leaves, each
// with a path of its own and a split.
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

// op() runs with mu_ held and `blocks` promised.  If the store is full, room is made (outside the
// lock), then again; at last it waits a moment for what a server holds though it is removed: its
// client is about to say that it has done with it.
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
      unflushed = !dirty_files_.empty();
      auto promised =
          begun ? promise(blocks, urgency) : Result<Reservation>(std::move(begun).error());
      quota = !promised && promised.error().sys == EDQUOT;
      if (promised) {
        space_.set_payer(&*promised);
        std::uint64_t const before = tree_.changes();
        R result = end_change(op(), before);
        bool const again =
            !result && result.error().code == Errc::kNoSpace && tree_.changes() == before && !last;
        if (!again) {
          if (result && !spill_if_large())
            return R(store_.fail(Error{Errc::kIo, "cannot write nodes"}));
          return result;
        }
        quota = result.error().sys == EDQUOT;
      } else if (promised.error().code != Errc::kNoSpace || last) {
        return R(std::move(promised).error());
      }
    }
    if (tries == 2 && urgency != Urgency::kOwnRemoval)
      await_forgotten();  // forget() is such a removal, and must not wait for itself
    // Unflushed files have generous promises, small ones above all; placing their data turns them
    // into less, at little cost.  At the layer's own limit nothing else helps.
    bool const flush = quota || (tries == 0 && unflushed);
    if (auto ok = flush ? flush_now(std::nullopt) : store_.make_room(urgency); !ok)
      return R(std::move(ok).error());
  }
}

}  // namespace lcfs
