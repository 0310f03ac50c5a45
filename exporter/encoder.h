// SPDX-License-Identifier: Apache-2.0
// Compresses the tar of a layer: into a new blob, or into exactly the bytes it was imported from.
//
// New gzip consists of pieces of 1 MiB, compressed in parallel, each with the 32 KiB before it as
// its dictionary; libzstd does the same for new zstd.  The bytes do not depend on the number of
// threads.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "exporter/tar_sink.h"
#include "format/records.h"

namespace lcfs::exporter {

inline constexpr std::size_t kPieceBytes = std::size_t{1} << 20;

// A piece of the plain tar: all but the last have kPieceBytes.
using Piece = std::shared_ptr<std::vector<std::byte> const>;

struct Encoding {
  enum Kind : std::uint8_t {
    kPlain,
    kGzip,
    kZstd,
    kZlib,
    kZstdOne
  };  // the last two: as other tools make it, in one thread
  Kind kind = kPlain;
  int level = 0;           // kZlib
  std::string header{};    // kZlib: the gzip header
  bool checksum = true;    // kZstd, kZstdOne
  std::uint64_t size = 0;  // kZstdOne: of the plain tar, if the frame has it; else ~0
  [[nodiscard]] BlobCompression compression() const {
    return kind == kPlain                   ? BlobCompression::kNone
           : kind == kGzip || kind == kZlib ? BlobCompression::kGzip
                                            : BlobCompression::kZstd;
  }
};

// For one thread.  Writes everything to `out` in order.
class Encoder {
 public:
  virtual ~Encoder() = default;
  virtual Status feed(Piece piece) = 0;
  // Writes out all input so far; this may change how the following input is compressed.
  virtual Status flush() { return {}; }
  virtual Status finish() = 0;
};
Result<std::unique_ptr<Encoder>> make_encoder(Encoding const& how, unsigned threads, ByteSink& out);

// How `blob` may have been made from a tar that begins with `pieces` (`whole`: that is all of it),
// judged by its first bytes; nothing if no known encoder matches.
Result<std::optional<Encoding>> find_encoding(BlobInfo const& blob, std::uint64_t plain_bytes,
                                              std::span<Piece const> pieces, bool whole);
inline constexpr std::size_t kProbePieces = 8;  // as many as are useful

}  // namespace lcfs::exporter
