// SPDX-License-Identifier: Apache-2.0
#include "engine/store/room_maker.h"

#include <algorithm>

#include "engine/store/store_impl.h"

namespace lcfs {

bool RoomMaker::is_in_vain(SpaceMap::Standing const& now) {
  ReadLock lock(store_.catalog.mutex());
  if (!store_.history.kept().empty() || store_.removed.any_dying()) return false;
  Lock room(mu_);
  return made_ == now;
}

Status RoomMaker::make(Urgency urgency) {
  auto after = store_.space.standing();
  if (urgency == Urgency::kOrdinary && is_in_vain(after)) return {};
  LCFS_TRY(make_ready(Urgency::kEmergency));
  LCFS_TRY(drop_history());
  LCFS_TRY(settle());
  // What was released meanwhile may have come too late.
  after.promised = store_.space.standing().promised;
  Lock room(mu_);
  made_ = after;
  return {};
}

Status RoomMaker::drop_history() {
  auto& history = store_.history;
  auto& space = store_.space;
  WriteLock lock(store_.catalog.mutex());
  if (history.kept().empty()) return {};
  std::uint64_t const had = space.counts().history;
  // A good piece at once: a store that fills up asks again and again.
  std::uint64_t const enough = std::max<std::uint64_t>(space.total() / 64, 4096);
  return store_.catalog.tree.change(
      Urgency::kEmergency, 0, [&]() LCFS_REQUIRES(structure) -> Status {
        while (!history.kept().empty() && had - space.counts().history < enough)
          LCFS_TRY(history.drop(history.kept().size() - 1));
        return {};
      });
}

Status RoomMaker::make_slack(std::uint64_t blocks) {
  auto const c = store_.space.counts();
  if (c.history == 0 || c.usable >= c.promised + c.emergency + blocks) return {};
  return make();
}

Status RoomMaker::make_ready(Urgency urgency) {
  LCFS_TRY(store_.health.check_writable());
  return store_.space.check_reserve(urgency) ? Status{} : settle();
}

Status RoomMaker::settle() {
  // Two: blocks freed in generation g are free once g + 1 is durable.
  LCFS_TRY(store_.checkpointer.run(true));
  return store_.checkpointer.run(true);
}

}  // namespace lcfs
