// SPDX-License-Identifier: Apache-2.0
// Streams of gzip (RFC 1952, any number of members) and zstd (RFC 8878, any number of frames,
// skippable ones too), told from each other by their first bytes.
//
// Every check the formats have is made: header CRC, data CRC and size of each gzip member, checksum
// of each zstd frame. Zeroes behind the last member are padding; anything else there is an error.
// Errors carry the offset in the compressed stream.  zstd windows over 128 MiB are refused.  Not
// thread safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "format/result.h"

namespace lcfs::importer {

enum class Compression : std::uint8_t { kNone, kGzip, kZstd, kXz, kBzip2, kLz4 };

// What `head`, the first bytes of a stream (6 or more, unless it is shorter), says that it is.
[[nodiscard]] Compression sniff(std::span<std::byte const> head);
[[nodiscard]] char const* name_of(Compression c);

class Decoder {
 public:
  virtual ~Decoder() = default;

  // Decodes from the front of `in` to the front of `out` and shortens both by what was used.
  // Returns when one is empty. When `out` is full there may be more: call again with more room,
  // also with an empty `in`.
  virtual Status run(std::span<std::byte const>& in, std::span<std::byte>& out) = 0;

  // The compressed stream has ended: an error if that is in the middle of something.
  virtual Status finish() = 0;
};

// kUnsupported for what we can't decode; kNone is the caller's mistake (kInvalid).
Result<std::unique_ptr<Decoder>> make_decoder(Compression c);

}  // namespace lcfs::importer
