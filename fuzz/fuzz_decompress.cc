// SPDX-License-Identifier: Apache-2.0
// Fuzz target: gzip and zstd streams.  The result must not depend on how input and output are cut.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "importer/decompress.h"

namespace {

using namespace lcfs;
using namespace lcfs::importer;

constexpr std::size_t kMostOutput = std::size_t{1} << 20;  // bombs are somebody else's test

std::string decode(std::span<std::byte const> all, Compression kind, std::size_t in_step,
                   std::size_t out_step, bool& whole) {
  auto made = make_decoder(kind);
  if (!made) return {};
  std::string out;
  std::vector<std::byte> buffer(out_step);
  for (std::size_t at = 0; at < all.size(); at += in_step) {
    auto in = all.subspan(at, std::min(in_step, all.size() - at));
    for (;;) {
      std::span<std::byte> room(buffer);
      if (!(*made)->run(in, room)) return out;
      out.append(reinterpret_cast<char const*>(buffer.data()), buffer.size() - room.size());
      if (out.size() > kMostOutput) return out;
      if (!room.empty()) break;
    }
    if (!in.empty()) __builtin_trap();
  }
  whole = bool((*made)->finish());
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::span const bytes(reinterpret_cast<std::byte const*>(data), size);
  auto const kind = sniff(bytes);
  if (kind != Compression::kGzip && kind != Compression::kZstd) return 0;
  bool at_once = false, in_pieces = false;
  auto const a = decode(bytes, kind, size, 65536, at_once);
  auto const b = decode(bytes, kind, 13, 1000, in_pieces);
  if (a.size() > kMostOutput || b.size() > kMostOutput) return 0;
  if (at_once != in_pieces || (at_once && a != b)) __builtin_trap();
  return 0;
}
