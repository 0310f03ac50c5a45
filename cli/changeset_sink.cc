// SPDX-License-Identifier: Apache-2.0
#include "cli/changeset_sink.h"

#include <algorithm>
#include <cerrno>
#include <vector>

#include "exporter/layer_tar.h"

namespace lcfs::cli {

Status ChangesetSink::bytes(std::span<std::byte const> bytes) {
  out_.write(reinterpret_cast<char const*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  if (stop_.load()) return Error::interrupted();
  if (!out_) return Error::io("cannot write the changeset", errno);
  return Ok{};
}

Status ChangesetSink::body(Inode inode, std::uint64_t offset, std::uint64_t length) {
  std::vector<std::byte> part(std::min<std::uint64_t>(length, LayerSnapshot::kMaxRead));
  while (length != 0) {
    part.resize(std::min<std::uint64_t>(length, part.size()));
    LCFS_TRY(exporter::read_from_snapshot(layer_, {inode, offset, part}, buffer_));
    LCFS_TRY(bytes(part));
    offset += part.size();
    length -= part.size();
  }
  return Ok{};
}

}  // namespace lcfs::cli
