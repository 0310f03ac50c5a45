// SPDX-License-Identifier: Apache-2.0
// The inside of a Store, for the engine's own files: its parts, put together.
//
// Each part keeps its state to itself; its header says what it is for, which lock it takes, and who
// may call it.  The order of the locks is engine/locks/lock_order.h.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/layer/layer_impl.h"
#include "engine/space/space_map.h"
#include "engine/store.h"
#include "engine/store/catalog.h"
#include "engine/store/checkpointer.h"
#include "engine/store/dirty_set.h"
#include "engine/store/event_queue.h"
#include "engine/store/flush_tickets.h"
#include "engine/store/health.h"
#include "engine/store/history.h"
#include "engine/store/ids.h"
#include "engine/store/layer_registry.h"
#include "engine/store/metered_device.h"
#include "engine/store/read_ahead.h"
#include "engine/store/removed_layers.h"
#include "engine/store/room_maker.h"
#include "engine/store/superblocks.h"
#include "engine/store/writeback.h"
#include "engine/tree/node_cache.h"
#include "engine/tree/tree.h"

namespace lcfs {

struct StoreImpl {
  // used: blocks in use, normalized; everything else is free.
  StoreImpl(std::unique_ptr<Device> device_in, OpenOptions const& options_in,
            SuperblockInfo const& super, std::vector<Extent> const& used);
  ~StoreImpl();

  // A change is durable and its listeners have heard of it: the end of an operation that noted
  // events up to number `noted`.
  Status finish(std::uint64_t noted) LCFS_EXCLUDES(structure);

  // Constant after construction
  std::unique_ptr<MeteredDevice> const meter;
  std::unique_ptr<ReadAheadDevice> const ahead;  // on *meter
  Device& device;                                // *ahead
  OpenOptions const options;
  std::array<std::uint8_t, 16> const hash_seed;

  // Space, numbers and counts
  NodeCache cache;
  SpaceMap space;
  Ids ids;
  std::atomic<std::uint64_t> dirty_bytes{0};    // unflushed file data of all layers
  std::atomic<std::uint64_t> data_failures{0};  // statistics: data checksums that did not match

  // The way to the device
  Health health;
  Superblocks superblocks;
  FlushTickets flushes;
  Writeback writeback;
  DirtySet dirty;

  // Layers in memory, and who hears of them
  LayerRegistry registry;
  EventQueue events;

  // Under the structure lock, which is Catalog::mutex()
  Catalog catalog;
  RemovedLayers removed;
  History history;

  // Work on all of them
  Checkpointer checkpointer;
  RoomMaker room;

  Mutex grow_mu LCFS_LEVEL(grow);  // Store::grow(): one at a time
};

// The inside of `store`: for the engine's own files, which have no other way in.
[[nodiscard]] StoreImpl& inside(Store& store);

}  // namespace lcfs
