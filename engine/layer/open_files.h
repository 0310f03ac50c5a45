// SPDX-License-Identifier: Apache-2.0
// What keeps an inode that has no name: that it is open, or held for a client that has not let go
// of it (Layer::hold_unlinked()).
//
// Threads: no locks, the caller holds the layer's lock.  Only the number of held inodes is read
// without it, which is why it stands elsewhere.
#pragma once

#include <atomic>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "engine/types.h"

namespace lcfs {

class OpenFiles {
 public:
  // held: counts the inodes that are held.
  explicit OpenFiles(std::atomic<std::uint64_t>& held) : held_(held) {}

  struct File {
    std::uint64_t opens = 0;
    bool held = false;
    bool linkable = false;  // made by tmpfile()
    [[nodiscard]] std::uint64_t keepers() const { return opens + (held ? 1 : 0); }
  };
  // What is known of it; nothing is kept: all zero.
  [[nodiscard]] File get(Inode inode) const {
    auto const it = files_.find(inode);
    return it == files_.end() ? File{} : it->second;
  }
  void open(Inode inode) { ++files_[inode].opens; }
  void close(Inode inode) {
    auto const it = files_.find(inode);
    --it->second.opens;
    drop_if_idle(it);
  }
  void hold(Inode inode) {
    auto& file = files_[inode];
    if (file.held) return;
    file.held = true;
    held_.fetch_add(1, std::memory_order_release);
  }
  void unhold(Inode inode) {
    auto const it = files_.find(inode);
    if (it == files_.end()) return;
    let_go(it->second);
    drop_if_idle(it);
  }
  // It has no name, and may get one though.  It is open or held.
  void set_linkable(Inode inode) { files_[inode].linkable = true; }
  // It has a name now: nothing else need hold it.
  void linked(Inode inode) {
    auto const it = files_.find(inode);
    if (it == files_.end()) return;
    it->second.linkable = false;
    let_go(it->second);
    drop_if_idle(it);
  }
  // The inode is gone.
  void erase(Inode inode) {
    auto const it = files_.find(inode);
    if (it == files_.end()) return;
    let_go(it->second);
    files_.erase(it);
  }
  void clear() { files_.clear(); }

  // While it is on, an inode that loses its last name is held.
  void set_holding(bool on) { holding_ = on; }
  [[nodiscard]] bool holding() const { return holding_; }
  [[nodiscard]] std::vector<Inode> held_inodes() const {
    std::vector<Inode> out;
    for (auto const& [inode, file] : files_) {
      if (file.held) out.push_back(inode);
    }
    return out;
  }

 private:
  using Files = std::unordered_map<Inode, File>;
  void let_go(File& file) {
    if (!file.held) return;
    file.held = false;
    held_.fetch_sub(1, std::memory_order_release);
  }
  void drop_if_idle(Files::iterator it) {
    if (it->second.keepers() == 0) files_.erase(it);
  }

  std::atomic<std::uint64_t>& held_;
  Files files_;
  bool holding_ = false;
};

}  // namespace lcfs
