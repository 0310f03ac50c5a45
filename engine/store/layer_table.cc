// SPDX-License-Identifier: Apache-2.0
// Records of layers; their runs are in runs.cc, skeletons in skeleton_records.cc.
#include "engine/store/layer_table.h"

#include <fmt/format.h>

#include <cerrno>

#include "engine/layer/layer_impl.h"
#include "engine/tree/tree.h"

namespace lcfs {

Result<std::vector<LayerInfo>> layers_in(Tree const& tree, std::uint64_t total) {
  std::vector<LayerInfo> out;
  Tree::Cursor c(tree);
  LCFS_TRY(c.seek({1, kLayer, 0}));
  while (c.valid()) {
    Key const key = c.key();
    if (key.kind == kLayer) {
      LCFS_TRY_ASSIGN(auto info, parse_layer(key, c.value(), total));
      if (info.state != LayerState::kDying) out.push_back(std::move(info));
    }
    LCFS_TRY(c.seek({key.kind < kLayer ? key.inode : key.inode + 1, kLayer, 0}));
  }
  return out;
}

Error LayerTable::no_layer(LayerId id) const {
  return Error::not_found(fmt::format("no layer {}", id)).in(device_.name());
}

Result<LayerInfo> LayerTable::record(LayerId id) const {
  LCFS_TRY_ASSIGN(auto const found, tree_.read().get({id, kLayer, 0}));
  if (!found) return no_layer(id);
  return parse_layer(found->key, found->value, space_.total());
}

Result<LayerInfo> LayerTable::live(LayerId id) const {
  LCFS_TRY_ASSIGN(LayerInfo info, record(id));
  if (info.state == LayerState::kDying) return no_layer(id);
  return info;
}

Status LayerTable::put(LayerInfo const& info) {
  return tree_.edit().put({info.id, kLayer, 0}, as_bytes(encode_layer(info)));
}

std::vector<LayerId> LayerTable::ancestors(LayerId id, std::size_t most) const {
  std::vector<LayerId> out;
  auto info = record(id);
  while (info && info->parent != 0 && out.size() < most) {
    out.push_back(info->parent);
    info = record(info->parent);
  }
  return out;
}

Result<bool> LayerTable::take_over(Handover& h, bool in_use, std::vector<Extent>& freed) {
  auto info = record(h.id);
  if (!info) {
    if (info.error().code == Errc::kNotFound) return false;  // an import that came to nothing
    return std::move(info).error();
  }
  bool const removed = info->state == LayerState::kDying;
  if (removed && !in_use) return false;
  if (!removed) {
    info->root = h.root;
    info->used_blocks = h.used_blocks;
    info->inodes = h.inodes;
  }
  blocks_ += h.own_blocks - info->own_blocks;
  info->own_blocks = h.own_blocks;
  LCFS_TRY(put(*info));
  LCFS_TRY(add_runs(h.id, std::move(h.allocated)));
  freed.insert(freed.end(), h.freed.begin(), h.freed.end());
  LCFS_TRY(remove_runs(h.id, std::move(h.freed)));
  return true;
}

Result<std::optional<Digest>> LayerTable::tree_digest(LayerId id) const {
  LCFS_TRY_ASSIGN(auto const found, tree_.read().get({id, kTreeDigest, 0}));
  if (!found) return std::optional<Digest>{};
  LCFS_TRY_ASSIGN(auto const digest, parse_tree_digest(found->key, found->value));
  return std::optional(digest);
}

Status LayerTable::put_tree_digest(LayerId id, Digest const& digest) {
  return tree_.edit().put({id, kTreeDigest, 0}, as_bytes(encode_tree_digest(digest)));
}

Status LayerTable::erase_tree_digest(LayerId id) {
  LCFS_TRY(tree_.edit().erase({id, kTreeDigest, 0}));
  return {};
}

}  // namespace lcfs
