// SPDX-License-Identifier: Apache-2.0
// Streams of gzip (RFC 1952, any number of members) and zstd (RFC 8878, any number of frames,
// skippable ones too), recognized by their first bytes.
//
// Every check the formats have is made: header CRC, data CRC and size of each gzip member, checksum
// of each zstd frame. Zeroes after the last member are padding; anything else there is an error.
// Errors carry the offset in the compressed stream.  zstd windows over 128 MiB are kUnsupported.
// Not thread safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"

namespace lcfs::importer {

enum class Compression : std::uint8_t { kNone, kGzip, kZstd, kXz, kBzip2, kLz4 };

// The compression of a stream, by its first bytes (6 or more, unless it is shorter).
[[nodiscard]] Compression sniff(std::span<std::byte const> head);
[[nodiscard]] char const* name_of(Compression c);

class Decoder {
 public:
  virtual ~Decoder() = default;

  // Decodes from the front of `in` to the front of `out` and shortens both by what was used.
  // Returns when one is empty. When `out` is full there may be more: call again with more room,
  // also with an empty `in`.
  virtual Status run(std::span<std::byte const>& in, std::span<std::byte>& out) = 0;

  // The compressed stream has ended: an error if a member or frame is incomplete.
  virtual Status finish() = 0;
};

// Errors: kUnsupported for formats without a decoder; kInvalid for kNone.
Result<std::unique_ptr<Decoder>> make_decoder(Compression c);

}  // namespace lcfs::importer
