// SPDX-License-Identifier: Apache-2.0
#include "verify/heal.h"

#include <sys/stat.h>

#include "engine/ingest.h"
#include "engine/stack.h"
#include "fsck/heal.h"

namespace lcfs {

namespace {

// A file as the ingest placed it, from position `at` of the log.
Status offer(ContentLog& log, std::uint64_t at, Device& device, fsck::Healer& healer) {
  auto read = [&](void* into, std::size_t size) -> Status {
    LCFS_TRY(log.read(at, {static_cast<std::byte*>(into), size}));
    at += size;
    return {};
  };
  std::byte tag{};
  LCFS_TRY(read(&tag, 1));
  if (tag != kExtentContent) return {};
  AlignedBuffer data(kMaxExtentBlocks * kBlockSize);
  for (std::uint64_t told = 0;;) {
    PlacedExtent e;
    LCFS_TRY(read(&e, sizeof e));
    if (e.count == 0) return {};
    if (e.count > kMaxExtentBlocks || e.file_offset < told)
      return Error{Errc::kCorrupt, "content log: a wrong extent"};
    at += e.count * sizeof(std::uint32_t);  // checksums: the healer computes them of what is read
    auto const bytes = data.span().first(e.count * kBlockSize);
    LCFS_TRY(device.read(e.block * kBlockSize, bytes));
    LCFS_TRY(healer.hole(e.file_offset - told));
    LCFS_TRY(healer.data(bytes));
    told = e.file_offset + bytes.size();
  }
}

}  // namespace

Result<std::uint64_t> heal_blocks(Store& store, Ingest& received, std::span<Damage const> damages) {
  auto& ingest = dynamic_cast<IngestImpl&>(received);
  auto& device = store.impl().device;
  auto const& delta = ingest.delta().impl();
  LCFS_TRY(store.impl().check_writable());
  LCFS_TRY(ingest.finish());
  fsck::Healer healer(device);
  for (auto const& d : damages) {
    if (d.inode != 0 && !d.path.empty())
      healer.want(d.path, d.file_offset, d.device_offset / kBlockSize, d.expected);
  }
  for (std::uint32_t n = 0; n < delta.nodes.size(); ++n) {
    auto const& node = delta.nodes[n];
    if (node.dead || node.kind != Delta::Impl::kOther || node.inode == kNone) continue;
    auto const& file = delta.files[node.inode];
    if (!S_ISREG(file.mode) || file.data == 0 || !healer.begin_file(delta.path_of(n))) continue;
    LCFS_TRY(offer(ingest.log(), file.data - 1, device, healer));
    LCFS_TRY(healer.end_file());
  }
  LCFS_TRY(healer.finish());
  return healer.healed();
}

}  // namespace lcfs
