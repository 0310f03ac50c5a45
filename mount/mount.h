// SPDX-License-Identifier: Apache-2.0
// The state of a mount, on which the request handlers work.
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

// A file of a layer, and a reference that keeps the layer in service.
struct Node {
  ServedPtr served{};
  Inode inode = 0;
  [[nodiscard]] Layer& layer() const { return *served->layer; }
};

// Threads: any, unless a member says otherwise.
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
  ServedPtr only{};  // --layer: the layer whose root is the root of the mount
  std::atomic<std::uint64_t> requests{0};
  // Reports written bytes.  After every 24 MiB, calls `write_back`, which starts writing dirty data
  // and does not wait.
  void wrote(std::uint64_t bytes);
  std::function<void()> write_back{};
  // Makes the kernel forget the files of removed layers.  Without it the kernel would cache them,
  // and so keep the layer and its space, until memory is short, because nobody looks these names up
  // again. After the invalidation it forgets each file when it is closed.  True: call it again in a
  // moment. Threads: one, which must not have a request.
  bool expire_removed();
  std::function<void()> layer_removed{};  // called when expire_removed() has work to do
  std::atomic<std::uint64_t> errors{0};   // requests that failed because of the device
  Session* session = nullptr;             // null before the mount and after the unmount

  // The file with this node id.  ESTALE if there is none (any more); EPERM for a file of the server
  // itself.
  Result<Node> node(NodeId id);
  // True for the files of the server itself: the root that lists the layers, and the files below
  // .lcfs.
  [[nodiscard]] bool is_virtual(NodeId id) const {
    return slot_in(id) == 0 && !(only && id == kRootNode);
  }
  [[nodiscard]] NodeId id_of(Served const& served, Inode inode) const {
    return &served == only.get() && inode == served.root ? kRootNode
                                                         : make_node(served.slot, inode);
  }
  // The attributes that stat(2) shows.
  [[nodiscard]] struct stat stat_of(Served const& served, Attr const& attr) const;
  [[nodiscard]] struct stat stat_of_root() const;

  // Adds one lookup of the node by the kernel, or removes `count` of them.
  void remember(Served& served, NodeId id);
  void forget(NodeId id, std::uint64_t count);

  // The errno for a reply.  Logs errors that are not ordinary answers.
  int errno_of(Error const& error, Served const* served);

  // Events of the store (LayerEvents): names appear and disappear in the root.
  void created(LayerInfo const& layer) override;
  void removed(LayerInfo const& layer) override;
  void renamed(LayerInfo const& before, LayerInfo const& after) override;
  void committed(LayerInfo const& frozen, LayerInfo const& running) override;
  void changed(LayerInfo const& layer) override;

 private:
  void name_changed(std::string_view name);
  void expire(Served& served);
  std::atomic<std::uint64_t> written_{0};  // bytes since the last call of write_back
  std::atomic<std::int64_t> root_changed_ns_;
};

}  // namespace lcfs::mount
