// SPDX-License-Identifier: Apache-2.0
// SHA-256 (FIPS 180-4) as a stream, and the digests of the OCI image spec.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "format/layout.h"

struct evp_md_ctx_st;

namespace lcfs::oci {

// Uses OpenSSL, or our own code where the processor has SHA instructions: it hashes two streams at
// once in little more time than one, which OpenSSL cannot do.
class Sha256 {
 public:
  enum class By : std::uint8_t { kBest, kOpenssl };
  explicit Sha256(By by = By::kBest);
  void update(std::span<std::byte const> data);
  // Hashes both at once, fastest if they have the same size; `a` and `b` must differ.
  static void update(Sha256& a, std::span<std::byte const> for_a, Sha256& b,
                     std::span<std::byte const> for_b);
  // The digest of everything so far; the object must not be used after that.
  [[nodiscard]] format::Digest finish();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* ctx) const;
  };
  // Takes bytes of `data` until a block is full, and hashes that block.
  void fill_block(std::span<std::byte const>& data);

  std::unique_ptr<evp_md_ctx_st, Free> ctx_;  // null: the rest is used
  std::array<std::uint32_t, 8> state_{};
  std::array<std::byte, 64> block_{};  // size_ % 64 bytes of it are not in state_ yet
  std::uint64_t size_ = 0;             // bytes so far
};

[[nodiscard]] format::Digest sha256(std::string_view data);

// OCI image-spec config.md, "Layer ChainID": of a layer on the chain `parent` (null: the first
// layer).
[[nodiscard]] format::Digest chain_id(format::Digest const* parent, format::Digest const& diff_id);

}  // namespace lcfs::oci
