// SPDX-License-Identifier: Apache-2.0
// Takes the tar of a layer: literal bytes, and references to bytes of files, which the sink reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/types.h"

namespace lcfs::exporter {

class TarSink {
 public:
  virtual ~TarSink() = default;
  virtual Status bytes(std::span<std::byte const> bytes) = 0;
  // Bytes [offset, offset + length) of a file of the layer.
  virtual Status body(Inode inode, std::uint64_t offset, std::uint64_t length) = 0;

  Status text(std::string_view s) { return bytes(std::as_bytes(std::span(s))); }
};

// Takes bytes of the output.
class ByteSink {
 public:
  virtual ~ByteSink() = default;
  virtual Status write(std::span<std::byte const> bytes) = 0;
};

}  // namespace lcfs::exporter
