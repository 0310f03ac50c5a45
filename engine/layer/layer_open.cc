// SPDX-License-Identifier: Apache-2.0
// Layers: what keeps an inode that has no name: open() and hold_unlinked().
// An orphan record on the device names such an inode, so that it does not outlive a crash.
#include <cerrno>
#include <chrono>
#include <thread>

#include "base/wait_hook.h"
#include "engine/layer/layer_change.h"

namespace lcfs {

Status LayerImpl::open(Inode inode) {
  WriteLock lock(mu_);
  LCFS_TRY(load(inode));
  open_.open(inode);
  return {};
}

bool LayerImpl::kept_alive(Inode inode) const {
  return open_.holding() || open_.get(inode).opens != 0;
}

Status LayerImpl::unlinked(Inode inode, InodeInfo& info) {
  if (!kept_alive(inode)) return remove_inode(inode);
  if (open_.holding()) open_.hold(inode);
  LCFS_TRY(files_.put_inode(inode, info));
  return tree_.add_orphan(inode);
}

Status LayerImpl::let_go_locked(Inode inode, Keeper keeper) {
  bool const held = keeper == Keeper::kHeld;
  auto const file = open_.get(inode);
  if (held ? !file.held : file.opens == 0) return held ? Status{} : Status(fs_error(EBADF));
  if (file.keepers() == 1) {
    auto const info = load(inode);
    if (info && info->nlink == 0 && !frozen()) {
      LCFS_TRY(tree_.remove_orphan(inode));
      return remove_inode(inode);
    }
  }
  // Only now: a removal that failed for lack of room is tried again from the start.
  if (held) {
    open_.unhold(inode);
  } else {
    open_.close(inode);
  }
  files_.drop_if_idle(inode);
  return {};
}

Status LayerImpl::let_go(Inode inode, Keeper keeper) {
  {
    // Mostly nothing is to be removed: then no space is reserved, and a read-only store or frozen
    // layer is no obstacle.
    WriteLock lock(mu_);
    auto const info = load(inode);
    bool const last = open_.get(inode).keepers() == 1;
    if (!last || !info || info->nlink != 0 || frozen()) return let_go_locked(inode, keeper);
  }
  return change(kOperationBlocks, Urgency::kOwnRemoval,
                [&]() LCFS_REQUIRES(mu_) { return let_go_locked(inode, keeper); });
}

Status LayerImpl::release(Inode inode) { return let_go(inode, Keeper::kOpen); }

void LayerImpl::await_forgotten() {
  forget_left_over();
  about_to_wait();
  // A kernel reports it when it has nothing more urgent to do.  While files are being removed, more
  // may follow; a large one takes its time.  After a wait in vain the next callers wait less:
  // somebody has the files open.
  constexpr int kPatience = 300, kLittle = 15;  // ms
  constexpr auto kVain = std::chrono::seconds(1);
  bool const hopeless = std::chrono::steady_clock::now().time_since_epoch() <
                        vain_until_.load(std::memory_order_relaxed);
  bool vain = true;
  for (int left = hopeless ? kLittle : kPatience; left > 0; --left) {
    std::uint64_t const before = held_.load(std::memory_order_acquire);
    if (before == 0) return;
    bool const going = going_.load(std::memory_order_acquire) != 0;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (!going && held_.load(std::memory_order_acquire) >= before) continue;
    vain = false;
    left = kLittle;
  }
  if (vain)
    vain_until_.store((std::chrono::steady_clock::now() + kVain).time_since_epoch(),
                      std::memory_order_relaxed);
}

Status LayerImpl::forget(Inode inode) {
  if (held_.load(std::memory_order_acquire) == 0) return {};
  {
    ReadLock lock(mu_);
    if (!open_.get(inode).held) return {};
  }
  going_.fetch_add(1, std::memory_order_release);
  auto done = let_go(inode, Keeper::kHeld);
  if (!done && done.error().code == Errc::kNoSpace) {
    WriteLock lock(mu_);
    left_over_.push_back(inode);
  }
  going_.fetch_sub(1, std::memory_order_release);
  return done;
}

void LayerImpl::forget_left_over() {
  std::vector<Inode> inodes;
  {
    WriteLock lock(mu_);
    inodes.swap(left_over_);
  }
  for (Inode const inode : inodes)
    static_cast<void>(forget(inode));  // what fails again stays left over
}

Status LayerImpl::hold_unlinked(bool on) {
  std::vector<Inode> held;
  {
    WriteLock lock(mu_);
    open_.set_holding(on);
    if (on) return {};
    held = open_.held_inodes();
  }
  for (Inode const inode : held) LCFS_TRY(let_go(inode, Keeper::kHeld));
  return {};
}

Status LayerImpl::remove_orphans() {
  std::vector<Inode> orphans;
  {
    ReadLock lock(mu_);
    if (frozen()) return {};
    LCFS_TRY_ASSIGN(orphans, tree_.orphans());
    std::erase_if(orphans, [&](Inode inode) LCFS_REQUIRES_SHARED(mu_) {
      return open_.get(inode).keepers() != 0;
    });
  }
  for (Inode const inode : orphans) {
    LCFS_TRY(change(kOperationBlocks, Urgency::kOwnRemoval, [&]() LCFS_REQUIRES(mu_) -> Status {
      if (open_.get(inode).keepers() != 0) return {};
      LCFS_TRY_ASSIGN(bool const there, tree_.remove_orphan(inode));
      return there ? remove_inode(inode) : Status{};  // not there: somebody else was faster
    }));
  }
  return {};
}

}  // namespace lcfs
