// SPDX-License-Identifier: Apache-2.0
#include "verify/heal.h"

#include <sys/stat.h>

#include <map>
#include <set>
#include <utility>

#include "engine/ingest.h"
#include "engine/stack.h"
#include "format/hash.h"

namespace lcfs {

namespace {

struct Wanted {
  std::uint32_t file = 0;         // in the delta
  std::uint64_t file_offset = 0;
  friend auto operator<=>(Wanted const&, Wanted const&) = default;
};

// Where each wanted block was placed.
Status find_copies(ContentLog& log, std::uint64_t at, std::uint32_t file, std::multimap<Wanted, Damage const*> const& wanted,
                   std::map<Damage const*, std::uint64_t>& copies) {
  auto read = [&](void* into, std::size_t size) -> Status {
    LCFS_TRY(log.read(at, {static_cast<std::byte*>(into), size}));
    at += size;
    return {};
  };
  std::byte tag{};
  LCFS_TRY(read(&tag, 1));
  if (tag != kExtentContent) return {};
  std::vector<std::uint32_t> sums;
  for (;;) {
    PlacedExtent e;
    LCFS_TRY(read(&e, sizeof e));
    if (e.count == 0) return {};
    if (e.count > kMaxExtentBlocks) return Error{Errc::kCorrupt, "content log: extent too long"};
    sums.resize(e.count);
    LCFS_TRY(read(sums.data(), e.count * sizeof(std::uint32_t)));
    for (std::uint32_t i = 0; i < e.count; ++i) {
      auto const [from, to] = wanted.equal_range({file, e.file_offset + std::uint64_t{i} * kBlockSize});
      for (auto it = from; it != to; ++it) {
        if (it->second->expected == sums[i]) copies[it->second] = e.block + i;
      }
    }
  }
}

}  // namespace

Result<std::uint64_t> heal_blocks(Store& store, Ingest& received, std::span<Damage const> damages) {
  auto& ingest = dynamic_cast<IngestImpl&>(received);
  auto& device = store.impl().device;
  auto& delta = ingest.delta().impl();
  LCFS_TRY(store.impl().check_writable());
  LCFS_TRY(ingest.finish());
  std::multimap<std::string, Damage const*> by_path;
  for (auto const& d : damages) {
    if (d.inode != 0 && !d.path.empty()) by_path.emplace(d.path.substr(1), &d);
  }
  std::multimap<Wanted, Damage const*> wanted;
  std::set<std::uint32_t> files;
  for (std::uint32_t n = 0; n < delta.nodes.size(); ++n) {
    auto const& node = delta.nodes[n];
    if (node.dead || node.kind != Delta::Impl::kOther || node.inode == kNone) continue;
    if (!S_ISREG(delta.files[node.inode].mode) || delta.files[node.inode].data == 0) continue;
    auto const [from, to] = by_path.equal_range(delta.path_of(n));
    for (auto it = from; it != to; ++it) {
      wanted.emplace(Wanted{node.inode, it->second->file_offset}, it->second);
      files.insert(node.inode);
    }
  }
  std::map<Damage const*, std::uint64_t> copies;
  for (auto const file : files) LCFS_TRY(find_copies(ingest.log(), delta.files[file].data - 1, file, wanted, copies));
  AlignedBuffer block(kBlockSize);
  std::uint64_t healed = 0;
  for (auto const& [damage, copy] : copies) {
    LCFS_TRY(device.read(copy * kBlockSize, block.span()));
    if (crc32c(block.span()) != damage->expected) continue;
    LCFS_TRY(device.write(damage->device_offset, std::span<std::byte const>(block.span())));
    ++healed;
  }
  if (healed != 0) LCFS_TRY(device.flush());
  return healed;
}

}  // namespace lcfs
