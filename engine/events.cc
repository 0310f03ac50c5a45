// SPDX-License-Identifier: Apache-2.0
// Telling a listener what became of layers: in order, one at a time, without a lock.
#include "engine/store_impl.h"

namespace lcfs {

void Store::set_events(LayerEvents* events) {
  Lock lock(impl_->events_mu);
  impl_->listener = events;
}

void StoreImpl::note(LayerEvent::Kind kind, LayerInfo const& one, LayerInfo const& two) {
  Lock lock(events_mu);
  ++noted;
  if (listener != nullptr) events.push_back({kind, noted, one, two});
}

std::uint64_t StoreImpl::last_noted() {
  Lock lock(events_mu);
  return noted;
}

void StoreImpl::tell(std::uint64_t until) {
  auto const me = std::this_thread::get_id();
  for (;;) {
    LayerEvent event;
    LayerEvents* who = nullptr;
    {
      Lock lock(events_mu);
      if (telling == me) return;  // from within a callback: told when that has returned
      while (telling) lock.wait(events_cv);
      if (events.empty() || events.front().number > until)
        return;  // what comes later is its own thread's to tell
      event = std::move(events.front());
      events.pop_front();
      who = listener;
      telling = me;
    }
    if (who != nullptr) {
      switch (event.kind) {
        case LayerEvent::kCreated: who->created(event.one); break;
        case LayerEvent::kRemoved: who->removed(event.one); break;
        case LayerEvent::kRenamed: who->renamed(event.one, event.two); break;
        case LayerEvent::kCommitted: who->committed(event.one, event.two); break;
        case LayerEvent::kChanged: who->changed(event.one); break;
      }
    }
    Lock lock(events_mu);
    telling.reset();
    events_cv.notify_all();
  }
}

}  // namespace lcfs
