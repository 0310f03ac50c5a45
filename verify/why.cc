// SPDX-License-Identifier: Apache-2.0
#include "verify/why.h"

#include <sys/stat.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "engine/snapshot.h"
#include "verify/held.h"

namespace lcfs::verify {

namespace {

Result<std::vector<FileRun>> runs_of(LayerSnapshot& layer, Inode inode, InodeInfo const& info) {
  constexpr std::size_t kBatch = 4096;  // blocks
  std::vector<FileRun> out;
  if (!S_ISREG(info.mode)) return out;
  std::vector<LayerSnapshot::BlockRef> refs;
  std::uint64_t const end = (info.size + kBlockSize - 1) / kBlockSize;
  for (std::uint64_t at = 0; at < end;) {
    LCFS_TRY_ASSIGN(auto const data, layer.next_data(inode, at * kBlockSize));
    if (data / kBlockSize >= end) break;
    at = data / kBlockSize;
    refs.assign(std::min<std::uint64_t>(kBatch, end - at), {});
    LCFS_TRY(layer.map(inode, at, refs));
    for (std::size_t i = 0; i < refs.size(); ++i) {
      if (refs[i].kind != LayerSnapshot::BlockRef::kData) continue;
      FileRun const run{(at + i) * kBlockSize, refs[i].block * kBlockSize, kBlockSize,
                        refs[i].owner};
      if (!out.empty() && out.back().owner == run.owner &&
          out.back().file_offset + out.back().bytes == run.file_offset &&
          out.back().device_offset + out.back().bytes == run.device_offset) {
        out.back().bytes += run.bytes;
      } else {
        out.push_back(run);
      }
    }
    at += refs.size();
  }
  return out;
}

bool same_runs(std::vector<FileRun> const& a, std::vector<FileRun> const& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](FileRun const& x, FileRun const& y) {
    return x.file_offset == y.file_offset && x.device_offset == y.device_offset &&
           x.bytes == y.bytes;
  });
}

// Finds other layers that use a block of `version`: they inherit it, so they have the inode with
// that block at the same offset.
Status find_sharers(Store& store, std::vector<LayerInfo> const& all,
                    std::unordered_map<LayerId, LayerId> const& parents, FileVersion& version) {
  std::set<LayerId> owners;
  for (auto const& r : version.runs) owners.insert(r.owner);
  for (auto const& info : all) {
    if (info.id == version.layer.id) continue;
    bool above = false;  // an owner of a run
    for (LayerId at = info.id; at != 0 && !above;) {
      above = owners.contains(at);
      auto const it = parents.find(at);
      at = it == parents.end() ? 0 : it->second;
    }
    if (!above) continue;
    LayerSnapshot other(store, info);
    LCFS_TRY_ASSIGN(auto const inode, other.find_inode(version.inode));
    if (!inode) continue;
    for (auto const& r : version.runs) {
      std::vector<LayerSnapshot::BlockRef> ref(1);
      LCFS_TRY(other.map(version.inode, r.file_offset / kBlockSize, ref));
      if (ref[0].kind != LayerSnapshot::BlockRef::kData ||
          ref[0].block * kBlockSize != r.device_offset)
        continue;
      version.sharers.push_back(info.id);
      break;
    }
  }
  return {};
}

}  // namespace

Result<std::vector<FileVersion>> file_versions(Store& store, LayerId layer, std::string_view named,
                                               bool sharers) {
  std::vector<LayerId> ids;
  LCFS_TRY(store.for_each_layer([&ids](LayerInfo const& l) {
    ids.push_back(l.id);
    return true;
  }));
  LCFS_TRY_ASSIGN(auto const held, hold_layers(store, ids));
  std::unordered_map<LayerId, LayerId> parents;
  std::unordered_map<LayerId, LayerInfo const*> by_id;
  for (auto const& l : held.layers) {
    parents.emplace(l.id, l.parent);
    by_id.emplace(l.id, &l);
  }
  std::vector<LayerInfo const*> chain;
  for (LayerId at = layer; at != 0;) {
    auto const it = by_id.find(at);
    if (it == by_id.end() || chain.size() > held.layers.size())
      return Error::not_found("no such layer");
    chain.push_back(it->second);
    at = it->second->parent;
  }
  std::reverse(chain.begin(), chain.end());

  LayerSnapshot top(store, *chain.back());
  LCFS_TRY_ASSIGN(auto const path, top.real_path(named));
  std::vector<FileVersion> out;
  NodePtr before{};
  for (auto const* info : chain) {
    if (info->root == before) continue;  // it changed nothing at all
    before = info->root;
    LayerSnapshot snapshot(store, *info);
    FileVersion v;
    v.layer = *info;
    LCFS_TRY_ASSIGN(v.inode, snapshot.find(path));
    bool const had = !out.empty() && out.back().what != FileVersion::kRemoved;
    if (v.inode == 0) {
      if (!had) continue;
      v.what = FileVersion::kRemoved;
      out.push_back(std::move(v));
      continue;
    }
    LCFS_TRY_ASSIGN(v.info, snapshot.inode(v.inode));
    LCFS_TRY_ASSIGN(v.runs, runs_of(snapshot, v.inode, v.info));
    if (!had) {
      v.what = FileVersion::kAdded;
    } else if (auto const& last = out.back(); last.inode != v.inode) {
      v.what = FileVersion::kReplaced;
    } else {
      bool const content = !same_runs(last.runs, v.runs) || last.info.size != v.info.size ||
                           last.info.mtime != v.info.mtime;
      if (!content && last.info == v.info) continue;
      v.what = content && S_ISREG(v.info.mode) ? FileVersion::kContent : FileVersion::kAttributes;
    }
    out.push_back(std::move(v));
  }
  if (sharers) {
    for (auto& v : out) LCFS_TRY(find_sharers(store, held.layers, parents, v));
  }
  return out;
}

}  // namespace lcfs::verify
