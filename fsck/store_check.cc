// SPDX-License-Identifier: Apache-2.0
// Compares the records of the store tree with each other: counters, the layer graph, images, names,
// digests.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

#include "fsck/store_scan.h"

namespace lcfs::fsck {

void StoreScan::check() {
  check_graph();  // also needed if parts are missing: it computes the order
  // If a part of the tree is lost, most checks below would only report that again.
  if (!complete_) return;
  check_counters();
  check_images();
  check_layer_names();
  check_image_names();
  check_digests();
  check_skeletons();
  check_tree_digests();
}

void StoreScan::check_counters() {
  auto const slot = kSlotBlock[sb_.slot] * kBlockSize;
  auto const counter = [&](std::size_t at, char const* what, std::uint64_t says, std::uint64_t is) {
    if (says != is)
      say(Code::kCounter, slot + at,
          fmt::format("superblock: {} {}, but there are {}", what, says, is));
  };
  auto const live = std::count_if(layers_.begin(), layers_.end(), [](LayerEntry const& l) {
    return l.info.state != LayerState::kDying;
  });
  counter(offsetof(Superblock, layer_count), "layer_count", sb_.layer_count,
          static_cast<std::uint64_t>(live));
  counter(offsetof(Superblock, image_count), "image_count", sb_.image_count, images_.size());
  counter(offsetof(Superblock, store_tree_blocks), "store_tree_blocks", sb_.store_tree_blocks,
          nodes_.size() * kNodeBlocks);
  std::uint64_t blocks = 0;
  for (auto const& r : runs_) blocks += r.count;
  counter(offsetof(Superblock, layer_blocks), "layer_blocks", sb_.layer_blocks, blocks);

  std::unordered_map<std::uint64_t, std::uint64_t> served;  // serve_id -> layer
  for (auto const& l : layers_) {
    if (l.info.own_blocks != l.run_blocks)
      say(Code::kCounter, l.at + offsetof(LayerRecord, own_blocks),
          fmt::format("own_blocks {}, but its runs have {}", l.info.own_blocks, l.run_blocks),
          l.info.id);
    if (l.info.id >= sb_.next_id)
      say(Code::kCounter, slot + offsetof(Superblock, next_id),
          fmt::format("superblock: next_id {}, but there is layer {}", sb_.next_id, l.info.id),
          l.info.id);
    if (l.info.serve_id >= sb_.next_id)
      say(Code::kCounter, slot + offsetof(Superblock, next_id),
          fmt::format("superblock: next_id {}, but a layer is served as {}", sb_.next_id,
                      l.info.serve_id),
          l.info.id);
    if (l.info.state == LayerState::kDying) continue;
    if (auto const [first, fresh] = served.emplace(l.info.serve_id, l.info.id); !fresh)
      say(Code::kGraph, l.at + offsetof(LayerRecord, serve_id),
          fmt::format("serve_id {} is also that of layer {}", l.info.serve_id, first->second),
          l.info.id);
  }
  for (auto const& i : images_)
    if (i.info.id >= sb_.next_id)
      say(Code::kCounter, slot + offsetof(Superblock, next_id),
          fmt::format("superblock: next_id {}, but there is image {}", sb_.next_id, i.info.id));
}

// Parents, children, and a walk over the forest that numbers every layer.  A dying layer has no
// tree, so it is outside.
void StoreScan::check_graph() {
  auto const index_of = [this](LayerEntry const* e) {
    return static_cast<std::size_t>(e - layers_.data());
  };
  std::vector<std::vector<std::size_t>> children(layers_.size());
  std::vector<std::size_t> stack, bases;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    auto const& info = layers_[i].info;
    if (info.state == LayerState::kDying) continue;
    auto const* parent = info.parent == 0 ? nullptr : layer(info.parent);
    bool const fit = parent != nullptr && parent->info.state == LayerState::kFrozen;
    if (info.parent != 0 && !fit && (complete_ || parent != nullptr))
      say(Code::kGraph, layers_[i].at + offsetof(LayerRecord, parent),
          parent == nullptr
              ? fmt::format("parent {} does not exist", info.parent)
              : fmt::format("parent {} ({}) is not frozen", info.parent, parent->info.name),
          info.id);
    if (parent != nullptr && parent->info.state != LayerState::kDying)
      children[index_of(parent)].push_back(i);
    else
      bases.push_back(i);
  }

  // Layers on a cycle have no base: each one left after the bases starts a walk of its own.
  std::uint64_t clock = 0;
  auto const walk_from = [&](std::size_t root) {
    layers_[root].depth = 1;
    stack.push_back(root);
    while (!stack.empty()) {
      auto const i = stack.back();
      auto& entry = layers_[i];
      if (entry.enter != 0) {  // its descendants are done
        stack.pop_back();
        if (entry.leave == 0) entry.leave = ++clock;
        continue;
      }
      entry.enter = ++clock;
      order_.push_back(&entry);
      for (auto it = children[i].rbegin(); it != children[i].rend(); ++it) {
        if (layers_[*it].enter != 0) continue;
        layers_[*it].depth = entry.depth + 1;
        stack.push_back(*it);
      }
    }
  };
  for (auto const base : bases) walk_from(base);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    auto const& e = layers_[i];
    if (e.info.state == LayerState::kDying || e.enter != 0) continue;
    say(Code::kGraph, e.at + offsetof(LayerRecord, parent), "its parents form a circle", e.info.id);
    walk_from(i);
  }
  if (!complete_) return;
  for (std::size_t i = 0; i < layers_.size(); ++i)
    if (layers_[i].info.state != LayerState::kDying &&
        layers_[i].info.children != children[i].size())
      say(Code::kCounter, layers_[i].at + offsetof(LayerRecord, children),
          fmt::format("children {}, but there are {}", layers_[i].info.children,
                      children[i].size()),
          layers_[i].info.id);
}

void StoreScan::check_images() {
  std::unordered_map<std::uint64_t, std::uint64_t> tops;  // layer -> images on it
  for (auto const& i : images_) {
    if (i.info.top_layer == 0) continue;
    auto const* top = layer(i.info.top_layer);
    if (top == nullptr || top->info.state != LayerState::kFrozen) {
      say(Code::kGraph, i.at + offsetof(ImageRecord, top_layer),
          fmt::format("image {}: top layer {} {}", i.info.id, i.info.top_layer,
                      top == nullptr ? "does not exist" : "is not frozen"));
    } else if (top->depth != i.info.layer_count) {
      say(Code::kGraph, i.at + offsetof(ImageRecord, layer_count),
          fmt::format("image {}: layer_count {}, but its top layer {} makes {} with its parents",
                      i.info.id, i.info.layer_count, top->info.name, top->depth));
    }
    ++tops[i.info.top_layer];
  }
  for (auto const& l : layers_)
    if (auto const it = tops.find(l.info.id); l.info.images != (it == tops.end() ? 0 : it->second))
      say(Code::kCounter, l.at + offsetof(LayerRecord, images),
          fmt::format("images {}, but there are {}", l.info.images,
                      it == tops.end() ? 0 : it->second),
          l.info.id);
}

void StoreScan::check_layer_names() {
  std::set<std::pair<NameType, std::string_view>> taken;
  std::set<std::uint64_t> named;
  for (auto const& n : names_) {
    if (!taken.emplace(n.type, n.name).second) {
      say(Code::kHash, n.at, fmt::format("duplicate name \"{}\"", n.name));
      continue;
    }
    if (n.type != NameType::kLayer) continue;
    auto const* l = layer(n.id);
    if (l == nullptr || l->info.state == LayerState::kDying)
      say(Code::kName, n.at,
          fmt::format("name \"{}\" of layer {}, which does not exist", n.name, n.id));
    else if (l->info.anonymous || l->info.name != n.name)
      say(Code::kName, n.at,
          fmt::format("name \"{}\" of a layer whose record says \"{}\"", n.name, l->info.name),
          n.id);
    else
      named.insert(n.id);
  }
  for (auto const& l : layers_)
    if (l.info.state != LayerState::kDying && !l.info.anonymous && !named.contains(l.info.id))
      say(Code::kName, l.at + sizeof(LayerRecord), "its name is not in the name table", l.info.id);
}

void StoreScan::check_image_names() {
  std::set<std::pair<std::uint64_t, std::string_view>> in_table, on_images;
  for (auto const& n : names_)
    if (n.type == NameType::kImage) in_table.emplace(n.id, n.name);
  std::map<std::uint64_t, ImageEntry*> by_id;
  for (auto& i : images_) by_id[i.info.id] = &i;

  for (auto const& n : image_names_) {
    auto const it = by_id.find(n.id);
    if (it == by_id.end()) {
      say(Code::kName, n.at,
          fmt::format("name \"{}\" of image {}, which does not exist", n.name, n.id));
      continue;
    }
    if (!on_images.emplace(n.id, n.name).second)
      say(Code::kHash, n.at, fmt::format("image {} has the name \"{}\" twice", n.id, n.name));
    ++it->second->names;
    if (!in_table.contains({n.id, n.name}))
      say(Code::kName, n.at,
          fmt::format("name \"{}\" of image {} is not in the name table", n.name, n.id));
  }
  for (auto const& n : names_)
    if (n.type == NameType::kImage && !on_images.contains({n.id, n.name}))
      say(Code::kName, n.at,
          fmt::format("name \"{}\" of image {}, which does not have it", n.name, n.id));
  for (auto const& i : images_)
    if (i.names != i.info.name_count)
      say(Code::kCounter, i.at + offsetof(ImageRecord, name_count),
          fmt::format("image {}: name_count {}, but there are {}", i.info.id, i.info.name_count,
                      i.names));
}

void StoreScan::check_tree_digests() {
  for (auto const& [id, at] : tree_digests_)
    if (auto const* l = layer(id); l == nullptr || l->info.state != LayerState::kFrozen)
      say(Code::kDigest, at,
          fmt::format("digest of the tree of layer {}, which {}", id,
                      l == nullptr ? "does not exist" : "is not frozen"),
          id);
}

void StoreScan::check_digests() {
  std::map<std::uint64_t, ImageEntry const*> by_id;
  for (auto const& i : images_) by_id[i.info.id] = &i;
  std::set<std::pair<NameType, Digest>> taken;
  std::set<std::uint64_t> found;  // ids of layers and images: they come from one counter
  for (auto const& d : digests_) {
    auto const text = digest_text(d.info.digest);
    if (!taken.emplace(d.info.type, d.info.digest).second) {
      say(Code::kHash, d.at, fmt::format("duplicate digest {}", text));
      continue;
    }
    bool fits = false;
    if (d.info.type == NameType::kLayer) {
      auto const* l = layer(d.info.id);
      fits = l != nullptr && l->info.state != LayerState::kDying && l->info.has_digests &&
             l->info.chain_id == d.info.digest;
    } else {
      auto const it = by_id.find(d.info.id);
      fits = it != by_id.end() && it->second->info.config_digest == d.info.digest;
    }
    if (fits)
      found.insert(d.info.id);
    else
      say(Code::kDigest, d.at,
          fmt::format("digest {} of {} {}, which does not have it", text,
                      d.info.type == NameType::kLayer ? "layer" : "image", d.info.id));
  }
  for (auto const& l : layers_)
    if (l.info.state != LayerState::kDying && l.info.has_digests && !found.contains(l.info.id))
      say(Code::kDigest, l.at + offsetof(LayerRecord, chain_id),
          "its chain_id is not in the digest table", l.info.id);
  for (auto const& i : images_)
    if (!found.contains(i.info.id))
      say(Code::kDigest, i.at,
          fmt::format("image {}: its config digest is not in the digest table", i.info.id));
}

void StoreScan::check_skeletons() {
  auto const& found = skeletons_.entries();
  for (auto const& [id, entry] : found) {
    auto const* l = layer(id);
    if (l == nullptr || l->info.state != LayerState::kFrozen)
      say(Code::kRecord, entry.at,
          fmt::format("skeleton of the tar of layer {}, which {}", id,
                      l == nullptr ? "does not exist" : "is not frozen"),
          id);
  }
  for (auto const& l : layers_) {
    auto const it = found.find(l.info.id);
    std::uint64_t const blocks = it == found.end() ? 0 : it->second.blocks;
    if (l.info.skeleton_blocks != blocks)
      say(Code::kCounter, l.at + offsetof(LayerRecord, skeleton_blocks),
          fmt::format("skeleton_blocks {}, but there are {}", l.info.skeleton_blocks, blocks),
          l.info.id);
  }
}

}  // namespace lcfs::fsck
