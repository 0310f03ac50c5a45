// SPDX-License-Identifier: Apache-2.0
// Compressing a layer's tar: anew, or so that the bytes it came in come out again.
//
// New gzip is made of pieces of 1 MiB, each compressed alone with the 32 KiB before it as its
// dictionary, by as many threads as there are; new zstd likewise, by libzstd.  The bytes do not
// depend on the number of threads.
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
  };  // the last two: as others make it, in one thread
  Kind kind = kPlain;
  int level = 0;           // kZlib
  std::string header{};    // kZlib: the gzip header
  bool checksum = true;    // kZstd, kZstdOne
  std::uint64_t size = 0;  // kZstdOne: of the plain tar, if the frame tells it; ~0: it does not
  [[nodiscard]] BlobCompression compression() const {
    return kind == kPlain                   ? BlobCompression::kNone
           : kind == kGzip || kind == kZlib ? BlobCompression::kGzip
                                            : BlobCompression::kZstd;
  }
};

// One thread.  Everything goes to `out` in order.
class Encoder {
 public:
  virtual ~Encoder() = default;
  virtual Status feed(Piece piece) = 0;
  // What was fed comes out now; what follows may come out otherwise than without it.
  virtual Status flush() { return {}; }
  virtual Status finish() = 0;
};
Result<std::unique_ptr<Encoder>> make_encoder(Encoding const& how, unsigned threads, ByteSink& out);

// How `blob` may have been made of a tar that begins with `pieces` (`whole`: that is all of it), as
// far as its first bytes tell; nothing if in none of the ways we know.
Result<std::optional<Encoding>> find_encoding(BlobInfo const& blob, std::uint64_t plain_bytes,
                                              std::span<Piece const> pieces, bool whole);
inline constexpr std::size_t kProbePieces = 8;  // that it is worth giving it

}  // namespace lcfs::exporter
