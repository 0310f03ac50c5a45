// SPDX-License-Identifier: Apache-2.0
// Layers: what keeps an inode that has no name: open() and hold_unlinked().
// An orphan record says on the device that such an inode is there, so that a crash does not keep
// it.
#include <cerrno>
#include <chrono>
#include <thread>

#include "device/wait_hook.h"
#include "engine/layer_change.h"

namespace lcfs {

void LayerImpl::hold(FileState& f) {
  if (f.held) return;
  f.held = true;
  held_.fetch_add(1, std::memory_order_release);
}

void LayerImpl::unhold(FileState& f) {
  if (!f.held) return;
  f.held = false;
  held_.fetch_sub(1, std::memory_order_release);
}

Status LayerImpl::open(Inode inode) {
  WriteLock lock(mu_);
  LCFS_TRY(load(inode));
  ++make_state(inode).opens;
  return {};
}

// Would the inode stay if its last name went?
bool LayerImpl::kept_alive(Inode inode) const {
  auto const* f = peek(inode);
  return holding_ || (f != nullptr && f->opens != 0);
}

Status LayerImpl::unlinked(Inode inode, InodeInfo& info) {
  if (!kept_alive(inode)) return remove_inode(inode);
  if (holding_) hold(make_state(inode));
  LCFS_TRY(store(inode, info));
  return tree_.put({0, kOrphan, inode}, {});
}

Status LayerImpl::let_go_locked(Inode inode, Keeper keeper) {
  auto* f = state(inode);
  bool const held = keeper == Keeper::kHeld;
  if (f == nullptr || (held ? !f->held : f->opens == 0))
    return held ? Status{} : Status(fs_error(EBADF));
  if (held ? f->opens == 0 : (f->opens == 1 && !f->held)) {
    auto const info = load(inode);
    if (info && info->nlink == 0 && !frozen()) {
      LCFS_TRY(tree_.erase({0, kOrphan, inode}));
      return remove_inode(inode);
    }
  }
  // Only now: should the removal have failed for want of room, it is tried again from the start.
  if (held) {
    unhold(*f);
  } else {
    --f->opens;
  }
  drop_state_if_idle(inode);
  return {};
}

Status LayerImpl::let_go(Inode inode, Keeper keeper) {
  {
    // Mostly nothing is to be removed: then no space is promised, and a read-only store or frozen
    // layer is no obstacle.
    WriteLock lock(mu_);
    auto const* f = state(inode);
    auto const info = load(inode);
    bool const last = f != nullptr && f->opens + (f->held ? 1 : 0) == 1;
    if (!last || !info || info->nlink != 0 || frozen()) return let_go_locked(inode, keeper);
  }
  return change(kOperationBlocks, Urgency::kOwnRemoval,
                [&]() LCFS_NO_TSA -> Status { return let_go_locked(inode, keeper); });
}

Status LayerImpl::release(Inode inode) { return let_go(inode, Keeper::kOpen); }

void LayerImpl::await_forgotten() {
  forget_left_over();
  about_to_wait();
  // A kernel tells when it has nothing more urgent to say.  While files go, more may; a large one
  // takes its time.  Who waited in vain spares the next ones that: somebody has the files open.
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
    auto const* f = peek(inode);
    if (f == nullptr || !f->held) return {};
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
    static_cast<void>(forget(inode));  // what fails again is left over again
}

Status LayerImpl::hold_unlinked(bool on) {
  std::vector<Inode> held;
  {
    WriteLock lock(mu_);
    holding_ = on;
    if (on) return {};
    for (auto const& file : files_) {
      if (file.second->held) held.push_back(file.first);
    }
  }
  for (Inode const inode : held) LCFS_TRY(let_go(inode, Keeper::kHeld));
  return {};
}

Status LayerImpl::remove_orphans() {
  auto kept = [&](Inode inode) LCFS_NO_TSA {
    auto const* f = peek(inode);
    return f != nullptr && (f->opens != 0 || f->held);
  };
  std::vector<Inode> orphans;
  {
    ReadLock lock(mu_);
    if (frozen()) return {};
    LCFS_TRY(scan(tree_, {0, kOrphan, 0}, {0, kOrphan, ~0ull},
                  [&](Key const& key, Bytes) LCFS_NO_TSA -> Result<bool> {
                    if (!kept(key.offset)) orphans.push_back(key.offset);
                    return true;
                  }));
  }
  for (Inode const inode : orphans) {
    LCFS_TRY(change(kOperationBlocks, Urgency::kOwnRemoval, [&]() LCFS_NO_TSA -> Status {
      if (kept(inode)) return {};
      LCFS_TRY_ASSIGN(bool const there, tree_.erase({0, kOrphan, inode}));
      return there ? remove_inode(inode) : Status{};  // not there: somebody else was faster
    }));
  }
  return {};
}

}  // namespace lcfs
