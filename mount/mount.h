// SPDX-License-Identifier: Apache-2.0
// A mount in service: what the handlers of requests work on.
#pragma once

#include <sys/stat.h>

#include <atomic>
#include <functional>
#include <string>
#include <string_view>

#include "engine/store.h"
#include "mount/layer_table.h"
#include "mount/lookups.h"
#include "mount/options.h"
#include "mount/pseudo.h"

namespace lcfs::mount {

class Session;

// A file of a layer.
struct Node {
  ServedPtr served{};
  Inode inode = 0;
  [[nodiscard]] Layer& layer() const { return *served->layer; }
};

class Mount final : public LayerEvents {
 public:
  Mount(Store& store, MountOptions const& options);
  ~Mount() override;

  Store& store;
  MountOptions const& options;
  Lookups lookups;
  LayerTable layers;
  Pseudo pseudo;
  Counters totals;   // of the whole mount
  ServedPtr only{};  // --layer: its root is the mount's
  std::atomic<std::uint64_t> requests{0};
  // So much was written.  Now and then this calls `write_back`, which begins to write it out and
  // does not wait for that.
  void wrote(std::uint64_t bytes);
  std::function<void()> write_back{};
  // Files of removed layers that were open when their layer went: the kernel would keep what it
  // knows of them, and with it the layer and its space, until memory is short, for nobody ever asks
  // for those names again.  Told that they are old, it lets go of each when it is closed.  True: to
  // be called again in a moment.  By one thread, which has no request.
  bool expire_removed();
  std::function<void()> layer_removed{};  // called then: expire_removed() has something to do
  std::atomic<std::uint64_t> errors{0};   // answers that were nobody's fault but the device's
  Session* session = nullptr;             // the conversation with the kernel; null before and after

  // The layer's file behind a node id.  ESTALE if it is none (any more); EPERM for a file of the
  // server itself.
  Result<Node> node(NodeId id);
  // True for the files of the server itself: the root that shows the layers, and what is below
  // .lcfs.
  [[nodiscard]] bool is_virtual(NodeId id) const {
    return slot_in(id) == 0 && !(only && id == kRootNode);
  }
  [[nodiscard]] NodeId id_of(Served const& served, Inode inode) const {
    return &served == only.get() && inode == served.root ? kRootNode
                                                         : make_node(served.slot, inode);
  }
  // What stat(2) shows.
  [[nodiscard]] struct stat stat_of(Served const& served, Attr const& attr) const;
  [[nodiscard]] struct stat stat_of_root() const;

  // The kernel knows the node once more, or `count` times less.
  void remember(Served& served, NodeId id);
  void forget(NodeId id, std::uint64_t count);

  // The errno for a reply; what is worth it is logged.
  int errno_of(Error const& error, Served const* served);

  // Events of the store (LayerEvents): names appear and vanish under the root.
  void created(LayerInfo const& layer) override;
  void removed(LayerInfo const& layer) override;
  void renamed(LayerInfo const& before, LayerInfo const& after) override;
  void committed(LayerInfo const& frozen, LayerInfo const& running) override;
  void changed(LayerInfo const& layer) override;

 private:
  void name_changed(std::string_view name);
  void expire(Served& served);
  std::atomic<std::uint64_t> written_{0};  // since write_back was called
  std::atomic<std::int64_t> root_changed_ns_;
};

}  // namespace lcfs::mount
