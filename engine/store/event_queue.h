// SPDX-License-Identifier: Apache-2.0
// Tells a listener what became of layers: in the order of the changes, one event at a time, without
// a lock held.
//
// The queue is filled under the structure lock, which orders the changes, and emptied after the
// checkpoint that makes them durable.  mu_ guards the queue; it is not held during a callback.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <optional>
#include <thread>

#include "engine/locks/lock_order.h"
#include "engine/store.h"

namespace lcfs {

struct LayerEvent {
  enum Kind : std::uint8_t { kCreated, kRemoved, kRenamed, kCommitted, kChanged };
  Kind kind = kChanged;
  std::uint64_t number = 0;
  LayerInfo one{};
  LayerInfo two{};  // kRenamed: after; kCommitted: the running layer
};

class EventQueue {
 public:
  // Null: nobody listens.  Not while changes are under way.
  void set_listener(LayerEvents* listener) LCFS_EXCLUDES(mu_);
  // A change happened; part of it.
  void note(LayerEvent::Kind kind, LayerInfo const& one, LayerInfo const& two = {})
      LCFS_REQUIRES(structure) LCFS_EXCLUDES(mu_);
  // The number of the last event; read under the structure lock, it covers the caller's own.
  [[nodiscard]] std::uint64_t last_noted() const LCFS_EXCLUDES(mu_);
  // Returns when the listener has heard of all events up to number `until`, which are durable.
  // From within a callback it returns at once: the caller of that callback goes on with them.
  void tell(std::uint64_t until) LCFS_EXCLUDES(structure, mu_);

 private:
  mutable Mutex mu_ LCFS_LEVEL(events);
  std::condition_variable cv_;
  LayerEvents* listener_ LCFS_GUARDED_BY(mu_) = nullptr;
  std::deque<LayerEvent> events_ LCFS_GUARDED_BY(mu_);
  std::uint64_t noted_ LCFS_GUARDED_BY(mu_) = 0;
  std::optional<std::thread::id> telling_ LCFS_GUARDED_BY(mu_);  // who calls the listener now
};

}  // namespace lcfs
