// SPDX-License-Identifier: Apache-2.0
#include "fsck/store_rebuild.h"

#include <fmt/format.h>

#include <algorithm>

#include "format/hash.h"
#include "fsck/blob_check.h"

namespace lcfs::fsck {
namespace {

template <class T>
std::string text_of(T const& bytes) {
  return {reinterpret_cast<char const*>(bytes.data()), bytes.size()};
}

// Sorts the pieces and joins adjacent ones.
void join(std::vector<Piece>& pieces) {
  std::sort(pieces.begin(), pieces.end(),
            [](Piece const& a, Piece const& b) { return a.start < b.start; });
  std::size_t n = 0;
  for (auto const& p : pieces) {
    if (n > 0 && p.start - pieces[n - 1].start <= pieces[n - 1].count)
      pieces[n - 1].count = std::max(pieces[n - 1].count, p.start - pieces[n - 1].start + p.count);
    else
      pieces[n++] = p;
  }
  pieces.resize(n);
}

}  // namespace

// Finds images whose documents are incomplete or do not match their digests.
std::set<std::uint64_t> StoreRebuild::damaged_documents() const {
  std::set<std::uint64_t> damaged;
  std::uint64_t image = 0;
  BlobCheck blobs([&](std::uint64_t, std::string const&) { damaged.insert(image); });
  TreeWalk walk(*survey_.source, survey_.superblock.store_root, 0, {});
  while (auto const r = walk.next()) {
    if (r->key.kind == kImage) {
      blobs.finish();
      auto const info = parse_image(r->key, r->value);
      image = r->key.inode;
      if (info) blobs.begin_image(*info, r->at);
    } else if (r->key.kind == kBlob) {
      blobs.chunk(r->key, r->value, r->at);
    }
  }
  blobs.finish();
  return damaged;
}

void StoreRebuild::decide() {
  auto const damaged = damaged_documents();
  auto const& plans = layers_.plans();
  for (auto const& entry : survey_.scan->image_table()) {
    auto info = entry.info;
    std::string why;
    std::uint32_t depth = 0;
    if (damaged.contains(info.id)) why = "its documents are damaged";
    for (auto id = info.top_layer; why.empty() && id != 0; ++depth) {
      auto const it = plans.find(id);
      if (it == plans.end() || it->second.fate == LayerPlan::kRemove)
        why = fmt::format("its layer {} is missing", id);
      else if (it->second.info.state != LayerState::kFrozen)
        why = fmt::format("its layer {} is not frozen", it->second.info.name);
      else if (it->second.lost)
        why = fmt::format("layer {} lost a part of it", it->second.info.name);
      else
        id = it->second.info.parent < id ? it->second.info.parent : 0;
    }
    std::set<std::string> names;
    for (auto const& n : survey_.scan->image_names())
      if (n.id == info.id) names.insert(n.name);
    for (auto const& n : survey_.scan->name_table())
      if (n.type == NameType::kImage && n.id == info.id) names.insert(n.name);
    if (!why.empty()) {
      Proposal p;
      p.step = Step::kImage;
      p.text = fmt::format("remove image {}{}{}, because {}; its layers stay",
                           digest_text(info.config_digest), names.empty() ? "" : ", ",
                           fmt::join(names, ", "), why);
      if (options_.ask && options_.ask(p)) {
        changed_ = true;
        continue;
      }
      declined_ = true;
    } else {
      info.layer_count = depth;
    }
    images_[info.id] = info;
    image_names_[info.id] = std::move(names);
  }
  // A name of two images belongs to the one in the name table.
  std::map<std::string, std::uint64_t> owner;
  for (auto const& n : survey_.scan->name_table())
    if (n.type == NameType::kImage && image_names_.contains(n.id)) owner.emplace(n.name, n.id);
  for (auto& [id, names] : image_names_)
    std::erase_if(names, [&owner, id = id](std::string const& n) {
      return owner.emplace(n, id).first->second != id;
    });
  // Of images with the same config digest the one with the lowest id stays.
  std::set<Digest> configs;
  std::erase_if(images_,
                [&](auto const& i) { return !configs.insert(i.second.config_digest).second; });
}

void StoreRebuild::add_name(Records& records, NameInfo const& name) {
  auto const key = name_key(survey_.superblock.hash_seed, name.name);
  records.push_back({{0, kName, key + probes_[key]++}, encode_name(name)});
}

void StoreRebuild::add_digest(Records& records, DigestInfo const& digest) {
  auto const key = digest_key(digest.digest);
  records.push_back({{0, kDigest, key + digest_probes_[key]++}, encode_digest(digest)});
}

void StoreRebuild::add_layers(Records& records, SuperblockInfo& sb) {
  auto& plans = layers_.plans();
  for (auto& [id, plan] : plans) plan.info.children = plan.info.images = 0;
  for (auto const& [id, plan] : plans)
    if (plan.fate != LayerPlan::kRemove && plan.info.parent != 0)
      ++plans.at(plan.info.parent).info.children;
  for (auto const& [id, image] : images_)
    if (auto const it = plans.find(image.top_layer); it != plans.end()) ++it->second.info.images;
  std::set<Digest> chains;
  std::set<std::string> names;
  for (auto const& [id, plan] : plans)
    if (plan.fate != LayerPlan::kRemove) names.insert(plan.info.name);
  for (auto& [id, plan] : plans) {
    if (plan.fate == LayerPlan::kRemove) continue;
    auto& info = plan.info;
    if (info.anonymous &&
        info.children + info.images == 0) {  // what it waited for is lost: the user must decide
      info.anonymous = false;
      info.name = fmt::format("anonymous-{}", id);
      while (!names.insert(info.name).second) info.name += '-';
    }
    if (info.has_digests && !chains.insert(info.chain_id).second) {
      info.has_digests = false;
      info.diff_id = info.chain_id = Digest{};
    }
    join(plan.own);
    info.own_blocks = 0;
    for (auto const& p : plan.own) {
      info.own_blocks += p.count;
      records.push_back({{id, kRun, p.start}, encode_run({id, p.start, p.count})});
    }
    sb.layer_blocks += info.own_blocks;
    ++sb.layer_count;
    records.push_back({{id, kLayer, 0}, encode_layer(info)});
    if (!info.anonymous) add_name(records, {id, NameType::kLayer, info.name});
    if (info.has_digests) add_digest(records, {info.chain_id, id, NameType::kLayer});
  }
}

void StoreRebuild::add_images(Records& records, SuperblockInfo& sb) {
  for (auto& [id, image] : images_) {
    auto const& names = image_names_[id];
    image.name_count = static_cast<std::uint32_t>(names.size());
    std::map<std::uint64_t, std::uint64_t> probes;
    for (auto const& name : names) {
      auto const key = name_key(survey_.superblock.hash_seed, name);
      records.push_back({{id, kImageName, key + probes[key]++}, name});
      add_name(records, {id, NameType::kImage, name});
    }
    records.push_back({{id, kImage, 0}, encode_image(image)});
    add_digest(records, {image.config_digest, id, NameType::kImage});
    sb.next_id = std::max(sb.next_id, id + 1);
  }
  sb.image_count = images_.size();
}

Result<SuperblockInfo> StoreRebuild::build(NodeWriter& out, NodeSource& fresh) {
  auto sb = survey_.superblock;
  sb.layer_blocks = sb.layer_count = 0;
  sb.next_id = layers_.next_id();
  sb.next_inode = layers_.next_inode();
  Records records;
  add_layers(records, sb);
  add_images(records, sb);
  for (auto const& k : survey_.kept)
    records.emplace_back(Key{0, kCheckpoint, k.info.generation}, encode_checkpoint(k.info));
  std::sort(records.begin(), records.end(),
            [](auto const& a, auto const& b) { return a.first < b.first; });

  // Documents and skeletons come from the old tree, in the same order of keys.
  auto const stays = [&](Key const& key) {
    if (key.kind == kBlob) return images_.contains(key.inode);
    if (key.kind != kSkeleton && key.kind != kSkeletonExtent) return false;
    auto const plan = layers_.plans().find(key.inode);
    return plan != layers_.plans().end() && plan->second.keep_skeleton;
  };
  TreeBuilder builder(out, 0, fresh, nullptr);
  std::size_t next = 0;
  TreeWalk walk(*survey_.source, survey_.superblock.store_root, 0, {});
  while (auto const r = walk.next()) {
    if (!stays(r->key)) continue;
    for (; next < records.size() && records[next].first < r->key; ++next) {
      LCFS_TRY(builder.add(records[next].first, std::as_bytes(std::span{records[next].second})));
    }
    LCFS_TRY(builder.add(r->key, r->value));
  }
  for (; next < records.size(); ++next) {
    LCFS_TRY(builder.add(records[next].first, std::as_bytes(std::span{records[next].second})));
  }
  LCFS_TRY_ASSIGN(auto const built, builder.finish());
  sb.store_root = built.root;
  sb.store_tree_blocks = built.nodes * kNodeBlocks;
  return sb;
}

}  // namespace lcfs::fsck
