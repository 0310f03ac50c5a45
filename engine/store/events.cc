// SPDX-License-Identifier: Apache-2.0
#include "engine/store/event_queue.h"

namespace lcfs {

void EventQueue::set_listener(LayerEvents* listener) {
  Lock lock(mu_);
  listener_ = listener;
}

void EventQueue::note(LayerEvent::Kind kind, LayerInfo const& one, LayerInfo const& two) {
  Lock lock(mu_);
  ++noted_;
  if (listener_ != nullptr) events_.push_back({kind, noted_, one, two});
}

std::uint64_t EventQueue::last_noted() const {
  Lock lock(mu_);
  return noted_;
}

namespace {
void call(LayerEvents& listener, LayerEvent const& event) {
  switch (event.kind) {
    case LayerEvent::kCreated: listener.created(event.one); break;
    case LayerEvent::kRemoved: listener.removed(event.one); break;
    case LayerEvent::kRenamed: listener.renamed(event.one, event.two); break;
    case LayerEvent::kCommitted: listener.committed(event.one, event.two); break;
    case LayerEvent::kChanged: listener.changed(event.one); break;
  }
}
}  // namespace

void EventQueue::tell(std::uint64_t until) {
  auto const me = std::this_thread::get_id();
  for (;;) {
    LayerEvent event;
    LayerEvents* listener = nullptr;
    {
      Lock lock(mu_);
      if (telling_ == me) return;  // within a callback: its caller goes on when it has returned
      while (telling_) lock.wait(cv_);
      // What comes later is its own thread's to tell.
      if (events_.empty() || events_.front().number > until) return;
      event = std::move(events_.front());
      events_.pop_front();
      listener = listener_;
      telling_ = me;
    }
    if (listener != nullptr) call(*listener, event);
    Lock lock(mu_);
    telling_.reset();
    cv_.notify_all();
  }
}

}  // namespace lcfs
