// SPDX-License-Identifier: Apache-2.0
#include "fsck/tree_search.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>

#include "fsck/node_source.h"
#include "fsck/store_scan.h"
#include "fsck/survey.h"

namespace lcfs::fsck {
namespace {

struct Root {
  NodePtr ptr{};
  unsigned level = 0;
};

// The trees found for one store.
struct Traces {
  // By generation, the newest first.
  std::map<std::uint64_t, std::vector<Root>, std::greater<>> roots{};
  std::uint64_t newest = 0;
};
using ByStore = std::map<Uuid, Traces>;

constexpr std::uint64_t kReadBlocks = 256;
constexpr unsigned kGenerationBits = 62;  // no store has reached more: forged
// Of one generation: more nodes without a parent mean that their root is lost.
constexpr std::size_t kMostRoots = 8;

// Records the node in `bytes`, if it is sound according to its header.
void notice(std::span<std::byte const> bytes, std::uint64_t block, std::uint64_t total_blocks,
            ByStore& stores) {
  auto const& h = NodeReader(bytes.data()).header();
  if (h.magic.get() != kNodeMagic || h.block.get() != block || h.level > kMaxLevel ||
      h.generation.get() >> kGenerationBits != 0)
    return;
  NodeExpectation expect;
  expect.block = block;
  expect.generation = h.generation.get();
  expect.checksum = h.checksum.get();
  expect.max_level = h.level;
  expect.exact_level = true;
  expect.store = h.store;
  if (!check_node(bytes, expect, total_blocks)) return;
  auto& traces = stores[h.store];
  traces.newest = std::max(traces.newest, expect.generation);
  if (h.owner.get() != 0) return;
  auto& roots = traces.roots[expect.generation];
  if (!roots.empty() && roots.front().level > h.level) return;
  if (!roots.empty() && roots.front().level < h.level) roots.clear();
  if (roots.size() == kMostRoots) return;
  Root root{{}, h.level};
  root.ptr.block.set(block);
  root.ptr.generation = h.generation;
  root.ptr.checksum = h.checksum;
  roots.push_back(root);
}

Result<ByStore> look_over(Device& device, Options const& options) {
  ByStore stores;
  std::uint64_t const total = device.size() / kBlockSize;
  AlignedBuffer buffer(kReadBlocks * kBlockSize);
  for (std::uint64_t start = kReservedBlocks; start + kNodeBlocks <= total;) {
    if (options.stopped()) return Error::interrupted();
    if (options.progress) options.progress("(searching)", start, total);
    auto const n = std::min(kReadBlocks, total - start);
    bool const whole = device.read(start * kBlockSize, buffer.span().first(n * kBlockSize)).ok();
    for (std::uint64_t b = 0; b + kNodeBlocks <= n; ++b) {
      auto const bytes = buffer.span().subspan(b * kBlockSize, kNodeSize);
      // One bad sector must not hide what the rest of a large read holds.
      if (!whole && !device.read((start + b) * kBlockSize, bytes)) continue;
      notice(bytes, start + b, total, stores);
    }
    // A node may reach over the end of a read.
    start += n < kReadBlocks ? n : n - (kNodeBlocks - 1);
  }
  return stores;
}

// True if the tree is complete and consistent.
std::optional<FoundTree> try_root(Device& device, Options const& options, SuperblockInfo identity,
                                  NodePtr const& root) {
  identity.generation = root.generation.get();
  identity.store_root = root;
  // Until the greatest are known: check_deeply().
  identity.next_id = identity.next_inode = std::numeric_limits<std::uint64_t>::max();
  NodeSource source(device, identity, options.node_cache, options.skip_checksum);
  FoundTree found;
  {
    Findings findings(1);
    StoreScan scan(source, identity, findings);
    scan.collect();
    if (findings.errors() != 0 || !scan.complete()) return std::nullopt;
    for (auto const& l : scan.layers()) {
      identity.layer_count += l.info.state != LayerState::kDying ? 1 : 0;
      found.last_change_ns = std::max({found.last_change_ns, l.info.created_ns, l.info.frozen_ns});
      if (l.info.state != LayerState::kDying && !source.get(l.info.root, NodeSource::kAnyLevel))
        return std::nullopt;
    }
    for (auto const& i : scan.image_table()) {
      found.last_change_ns = std::max(found.last_change_ns, i.info.imported_ns);
    }
    for (auto const& k : scan.checkpoints())
      found.last_change_ns = std::max(found.last_change_ns, k.info.written_ns);
    for (auto const& r : scan.runs()) identity.layer_blocks += r.count;
    identity.image_count = scan.images();
    identity.store_tree_blocks = scan.nodes().size() * kNodeBlocks;
  }
  Findings findings(1);
  StoreScan scan(source, identity, findings);
  scan.collect();
  scan.check();
  if (findings.errors() != 0) return std::nullopt;
  identity.written_ns = found.last_change_ns;
  if (identity.created_ns == 0) identity.created_ns = found.last_change_ns;
  found.superblock = std::move(identity);
  return found;
}

// Checks everything below it, including restore points.
Status check_deeply(Device& device, Options how, FoundTree& found) {
  how.data = how.search = true;  // search: accept a store without superblocks
  how.collect = false;
  LCFS_TRY_ASSIGN(auto const survey, inspect(device, how, {std::nullopt, &found.superblock}));
  auto const& findings = survey.report.findings;
  found.errors = survey.report.left_out +
                 static_cast<std::uint64_t>(
                     std::count_if(findings.begin(), findings.end(), [](Finding const& f) {
                       return f.severity == Severity::kError && f.code != Code::kSuperblock;
                     }));
  found.whole = survey.report.left_out == 0 &&
                std::none_of(findings.begin(), findings.end(), [](Finding const& f) {
                  return f.severity == Severity::kError && f.code != Code::kSuperblock &&
                         f.code != Code::kData && f.code != Code::kIo;
                });
  std::uint64_t id = survey.scan->last_id(), inode = 0;
  for (auto const& [layer, facts] : survey.layers) inode = std::max(inode, facts.result.last_inode);
  for (auto const& k : survey.kept) {
    id = std::max(id, k.last_id);
    inode = std::max(inode, k.last_inode);
  }
  found.superblock.next_id = id + 1;
  found.superblock.next_inode = inode + 1;
  return {};
}

bool leads_to(std::optional<SuperblockInfo> const& slot, NodePtr const& root) {
  return slot && slot->store_root == root;
}

// The fields of a superblock besides the root; from a valid one, or from the nodes.
SuperblockInfo identity_of(Uuid const& store, SuperblockInfo const* valid,
                           std::uint64_t total_blocks) {
  SuperblockInfo info;
  if (valid != nullptr)
    info = *valid;
  else
    info.uuid = info.hash_seed = store;
  info.total_blocks = total_blocks;
  info.written.clear();
  info.written_torn = false;
  info.store_tree_blocks = info.layer_blocks = info.layer_count = info.image_count = 0;
  return info;
}

// Chooses one of the trees of one store.
Result<std::optional<FoundTree>> newest_whole(Device& device, Options const& options,
                                              Traces const& traces, SuperblockInfo const& identity,
                                              Slots const& slots, std::uint64_t after) {
  constexpr int kMostChecked = 4;
  int checked = 0;
  std::optional<FoundTree> newest;
  for (auto const& entry : traces.roots) {
    if (entry.first <= after) break;
    std::optional<FoundTree> best;  // of this generation
    for (auto const& root : entry.second) {
      if (options.stopped()) return Error::interrupted();
      if (leads_to(slots[0], root.ptr) || leads_to(slots[1], root.ptr)) continue;
      auto found = try_root(device, options, identity, root.ptr);
      // The superblock may be from before the store grew.
      if (auto const all = device.size() / kBlockSize; !found && all > identity.total_blocks) {
        auto grown = identity;
        grown.total_blocks = all;
        found = try_root(device, options, std::move(grown), root.ptr);
      }
      if (!found) continue;
      LCFS_TRY(check_deeply(device, options, *found));
      ++checked;
      if (!best || found->errors < best->errors) best = std::move(found);
    }
    if (best && best->whole) return best;
    if (best && !newest && after == 0)
      newest = std::move(best);  // better than nothing, but not better than an existing state
    if (checked >= kMostChecked) break;
  }
  return newest;
}

bool tells_whole_uuid(Uuid const& store) {
  return std::any_of(store.begin() + kStoreIdBefore, store.end(),
                     [](std::uint8_t b) { return b != 0; });
}

}  // namespace

std::string time_text(std::int64_t ns) {
  auto const seconds = static_cast<std::time_t>(ns / 1'000'000'000);
  std::tm utc{};
  if (gmtime_r(&seconds, &utc) == nullptr) return "an unknown time";
  return fmt::format("{:%Y-%m-%d %H:%M:%S} UTC", utc);
}

std::string FoundTree::text() const {
  auto text = fmt::format("that of generation {} at offset {:#x}, with {} layers and {} images",
                          superblock.generation, superblock.store_root.block.get() * kBlockSize,
                          superblock.layer_count, superblock.image_count);
  if (last_change_ns != 0) text += ", the newest of " + time_text(last_change_ns);
  if (errors != 0) text += fmt::format("; it has {} errors for the next repairs", errors);
  for (auto const& uuid : others)
    text += "; there is also one of another store, " + uuid_text(uuid);
  return text;
}

Result<FoundTree> search_tree(Device& device, Options const& options, Slots const& slots,
                              std::uint64_t after) {
  SuperblockInfo const* valid = nullptr;
  for (auto const& s : slots)
    if (s && (valid == nullptr || s->generation > valid->generation)) valid = &*s;
  LCFS_TRY_ASSIGN(auto const stores, look_over(device, options));
  std::uint64_t const total = valid != nullptr ? valid->total_blocks : device.size() / kBlockSize;
  std::optional<FoundTree> best;
  std::vector<Uuid> all;
  bool nameless = false;
  for (auto const& [store, traces] : stores) {
    if (valid != nullptr && !names_store(store, valid->uuid)) continue;
    if (valid == nullptr && !tells_whole_uuid(store)) {
      nameless = true;
      continue;
    }
    LCFS_TRY_ASSIGN(auto const whole, newest_whole(device, options, traces,
                                                   identity_of(store, valid, total), slots, after));
    if (!whole) continue;
    all.push_back(store);
    if (best && best->last_change_ns >= whole->last_change_ns) continue;
    best = *whole;
  }
  if (!best) {
    return Error::corrupt(
               nameless ? "no superblock can be read, and the trees found do not name their store, "
                          "because an old lcfs wrote them; put back a copy of the first 64 KiB, "
                          "however old"
                        : "no whole store tree found")
        .in(device.name());
  }
  for (auto const& [store, traces] : stores) best->newest = std::max(best->newest, traces.newest);
  std::erase(all, best->superblock.uuid);
  best->others = std::move(all);
  return *std::move(best);
}

}  // namespace lcfs::fsck
