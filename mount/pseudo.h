// SPDX-License-Identifier: Apache-2.0
// The files that belong to no layer: the root of a mount of all layers, and the server's reports
// below `.lcfs`:
//   .lcfs/{stats.prom,stats.json,layers.json,space.json}   in the root of the mount
//   NAME/.lcfs/{stats.prom,stats.json,space.json}          for one layer
// `.lcfs` is found by name only: no listing shows it, and a layer's own file of that name takes
// precedence.
//
// Each lookup makes a new report, a file that exists until the kernel forgets it.  A reader
// therefore sees one consistent text, and the kernel's caches need no invalidation.  Threads: any.
#pragma once

#include <fuse3/fuse_lowlevel.h>

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/sync.h"
#include "mount/layer_table.h"
#include "mount/node_id.h"

namespace lcfs::mount {

class Mount;

class Pseudo {
 public:
  static constexpr char kName[] = ".lcfs";

  explicit Pseudo(Mount& mount) : mount_(mount) {}

  void lookup(fuse_req_t req, NodeId parent, char const* name);
  void lookup_in_layer(fuse_req_t req, ServedPtr const& served);  // NAME/.lcfs
  [[nodiscard]] Result<struct stat> getattr(NodeId id) const;
  void read(fuse_req_t req, NodeId id, std::size_t size, off_t offset);
  void readdir(fuse_req_t req, NodeId id, std::size_t size, std::uint64_t offset, bool plus);
  void forget(NodeId id);

 private:
  struct File {
    bool directory = false;
    ServedPtr served{};  // the layer; null: the whole mount
    std::string text{};
    std::int64_t made_ns = 0;
  };
  using FilePtr = std::shared_ptr<File const>;
  FilePtr find(NodeId id) const;
  NodeId add(File file);
  void reply_new(fuse_req_t req, File file);
  struct stat stat_of(NodeId id, File const& file) const;

  Mount& mount_;
  mutable Mutex mu_;
  std::unordered_map<NodeId, FilePtr> files_ LCFS_GUARDED_BY(mu_);
  std::atomic<NodeId> next_{16};
};

}  // namespace lcfs::mount
