// SPDX-License-Identifier: Apache-2.0
#include "importer/layer_set.h"

#include <fmt/format.h>

#include <utility>

#include "format/records.h"
#include "oci/quote.h"

namespace lcfs::importer {

Status LayerSet::add(PlannedImage const& image) {
  for (auto const& layer : image.layers) {
    auto const size = archive_.size(layer.member);
    if (!size || !layer.blob_size || *size == *layer.blob_size) continue;
    return oci::in_member(Error::corrupt(fmt::format("has {} bytes, but its descriptor says {}",
                                                     *size, *layer.blob_size)),
                          archive_.name(), layer.member);
  }
  // From the top down to a known layer: one that the store has brings all its ancestors.
  std::size_t parent = kNone;
  LayerId base = 0;
  std::size_t next = image.layers.size();
  for (; next > 0; --next) {
    Digest const& chain = image.layers[next - 1].chain_id;
    if (auto const it = by_chain_.find(chain); it != by_chain_.end()) {
      parent = it->second;
      break;
    }
    if (auto const id = store_.find_chain(chain)) {
      base = *id;
      break;
    }
  }
  for (; next < image.layers.size(); ++next) {
    PlannedLayer const& layer = image.layers[next];
    std::size_t const index = nodes_.size();
    nodes_.emplace_back();
    nodes_.back().layer = &layer;
    nodes_.back().parent = parent;
    nodes_.back().base = base;
    if (parent != kNone) nodes_[parent].children.push_back(index);
    by_chain_.emplace(layer.chain_id, index);
    parent = index;
    base = 0;
  }
  return {};
}

std::vector<LayerSet::Wanted> LayerSet::wanted() const {
  std::vector<Wanted> all;
  all.reserve(nodes_.size());
  for (std::size_t i = 0; i < nodes_.size(); ++i) all.push_back({i, nodes_[i].layer});
  return all;
}

Status LayerSet::check_present(PlannedLayer const& layer) const {
  if (archive_.size(layer.member)) return {};
  return oci::in_member(Error::not_found("layer is not in the archive"), archive_.name(),
                        layer.member);
}

Status LayerSet::verify(PlannedLayer const& layer, ReceivedLayer const& got) const {
  if (layer.blob_digest && *layer.blob_digest != got.blob.digest) {
    return Error::corrupt(fmt::format("is corrupt: digest {}, but its descriptor says {}",
                                      digest_text(got.blob.digest),
                                      digest_text(*layer.blob_digest)));
  }
  if (layer.diff_id != got.diff_id) {
    return Error::corrupt(fmt::format("its tar has digest {}, but the config's diff_id is {}",
                                      digest_text(got.diff_id), digest_text(layer.diff_id)));
  }
  return {};
}

Status LayerSet::received(std::size_t index, ReceivedLayer layer) {
  Lock const lock(mu_);
  Node& first = nodes_[index];
  if (auto ok = verify(*first.layer, layer); !ok)
    return oci::in_member(std::move(ok).error(), archive_.name(), first.layer->member);
  first.received = std::move(layer);
  first.ready = true;
  if (first.parent != kNone && nodes_[first.parent].id == 0) return {};
  std::vector<std::size_t> pending{index};
  while (!pending.empty()) {
    Node& node = nodes_[pending.back()];
    pending.pop_back();
    LCFS_TRY(stack(node));
    for (std::size_t const child : node.children) {
      if (nodes_[child].ready) pending.push_back(child);
    }
  }
  return {};
}

Status LayerSet::stack(Node& node) {
  LayerMeta meta;
  meta.diff_id = node.layer->diff_id;
  meta.chain_id = node.layer->chain_id;
  meta.diff_bytes = node.received.plain_bytes;
  meta.blob = std::move(node.received.blob);
  LayerId const parent = node.parent == kNone ? node.base : nodes_[node.parent].id;
  auto id = transaction_.stack(*node.received.ingest, parent, meta);
  if (!id) return oci::in_member(std::move(id).error(), archive_.name(), node.layer->member);
  node.id = *id;
  node.ready = false;
  node.received.ingest.reset();
  return {};
}

Result<LayerSet::Known> LayerSet::known(Digest const& chain_id) const {
  Lock const lock(mu_);
  if (auto const it = by_chain_.find(chain_id); it != by_chain_.end()) {
    Node const& node = nodes_[it->second];
    return Known{node.id, transaction_.layer_name(node.id), node.received.plain_bytes, true};
  }
  auto const id = store_.find_chain(chain_id);
  if (!id)
    return Error::not_found(fmt::format("layer {} was removed meanwhile", digest_text(chain_id)));
  LCFS_TRY_ASSIGN(auto const info, store_.layer_info(*id));
  return Known{*id, info.name, info.diff_bytes, false};
}

}  // namespace lcfs::importer
