// SPDX-License-Identifier: Apache-2.0
// SHA-256 (FIPS 180-4) as a stream, and the digests the OCI image spec makes of it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "format/layout.h"

struct evp_md_ctx_st;

namespace lcfs::importer {

// Done by OpenSSL, or, where the processor has instructions for it, by ourselves: two streams at
// once take little more time than one, and OpenSSL has no way to do that.
class Sha256 {
 public:
  enum class By : std::uint8_t { kBest, kOpenssl };
  explicit Sha256(By by = By::kBest);
  void update(std::span<std::byte const> data);
  // Both at once, best if they have as many bytes; `a` and `b` are not the same.
  static void update(Sha256& a, std::span<std::byte const> for_a, Sha256& b,
                     std::span<std::byte const> for_b);
  // The digest of everything so far; the object is done with.
  [[nodiscard]] Digest finish();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* ctx) const;
  };
  // Bytes of `data` until a block is full; that block goes in.
  void fill_block(std::span<std::byte const>& data);

  std::unique_ptr<evp_md_ctx_st, Free> ctx_;  // null: the rest is used
  std::array<std::uint32_t, 8> state_{};
  std::array<std::byte, 64> block_{};  // size_ % 64 bytes of it are not in state_ yet
  std::uint64_t size_ = 0;             // bytes so far
};

[[nodiscard]] Digest sha256(std::string_view data);

// OCI image-spec config.md, "Layer ChainID": of a layer on the chain `parent` (null: the first
// layer).
[[nodiscard]] Digest chain_id(Digest const* parent, Digest const& diff_id);

}  // namespace lcfs::importer
