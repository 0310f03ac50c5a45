// SPDX-License-Identifier: Apache-2.0
#include "oci/sha256.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "format/records.h"
#include "oci/sha256_blocks.h"

namespace lcfs::oci {

void Sha256::Free::operator()(evp_md_ctx_st* ctx) const { EVP_MD_CTX_free(ctx); }

namespace {
constexpr std::size_t kBlock = 64;
constexpr std::array<std::uint32_t, 8> kStart{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                              0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

void put_big_endian(std::uint64_t value, std::size_t bytes, std::byte* to) {
  for (std::size_t i = 0; i < bytes; ++i)
    to[i] = static_cast<std::byte>(value >> 8 * (bytes - 1 - i) & 0xff);
}
}  // namespace

// OpenSSL fails here only without memory or if a policy disables SHA-256; neither can be handled.
Sha256::Sha256(By by) {
  if (by == By::kBest && has_sha_instructions()) {
    state_ = kStart;
    return;
  }
  ctx_.reset(EVP_MD_CTX_new());
  if (!ctx_ || EVP_DigestInit_ex(ctx_.get(), EVP_sha256(), nullptr) != 1) throw std::bad_alloc();
}

void Sha256::fill_block(std::span<std::byte const>& data) {
  std::size_t const have = size_ % kBlock;
  if (have == 0) return;
  auto const part = data.first(std::min(data.size(), kBlock - have));
  std::copy(part.begin(), part.end(), block_.begin() + static_cast<std::ptrdiff_t>(have));
  size_ += part.size();
  data = data.subspan(part.size());
  if (have + part.size() == kBlock) sha256_blocks(state_.data(), block_.data(), 1);
}

void Sha256::update(std::span<std::byte const> data) {
  if (ctx_) {
    if (EVP_DigestUpdate(ctx_.get(), data.data(), data.size()) != 1) throw std::bad_alloc();
    return;
  }
  fill_block(data);
  if (data.empty()) return;
  sha256_blocks(state_.data(), data.data(), data.size() / kBlock);
  size_ += data.size();
  auto const rest = data.last(data.size() % kBlock);
  std::copy(rest.begin(), rest.end(), block_.begin());
}

void Sha256::update(Sha256& a, std::span<std::byte const> for_a, Sha256& b,
                    std::span<std::byte const> for_b) {
  if (!a.ctx_ && !b.ctx_) {
    a.fill_block(for_a);
    b.fill_block(for_b);
    std::size_t const blocks = std::min(for_a.size(), for_b.size()) / kBlock;
    if (blocks > 0) {
      sha256_blocks(a.state_.data(), for_a.data(), b.state_.data(), for_b.data(), blocks);
      a.size_ += blocks * kBlock;
      b.size_ += blocks * kBlock;
      for_a = for_a.subspan(blocks * kBlock);
      for_b = for_b.subspan(blocks * kBlock);
    }
  }
  a.update(for_a);
  b.update(for_b);
}

format::Digest Sha256::finish() {
  format::Digest digest{};
  if (ctx_) {
    if (EVP_DigestFinal_ex(ctx_.get(), digest.data(), nullptr) != 1) throw std::bad_alloc();
    return digest;
  }
  // FIPS 180-4, 5.1.1: a one bit, zeroes, and the length in bits at the end of a block.
  std::array<std::byte, 2 * kBlock> last{};
  std::size_t const have = size_ % kBlock,
                    blocks = have + 1 + sizeof(std::uint64_t) <= kBlock ? 1 : 2;
  std::copy_n(block_.begin(), have, last.begin());
  last[have] = std::byte{0x80};
  put_big_endian(size_ * 8, sizeof(std::uint64_t),
                 last.data() + blocks * kBlock - sizeof(std::uint64_t));
  sha256_blocks(state_.data(), last.data(), blocks);
  for (std::size_t i = 0; i < state_.size(); ++i) {
    put_big_endian(state_[i], sizeof(std::uint32_t),
                   reinterpret_cast<std::byte*>(digest.data()) + i * sizeof(std::uint32_t));
  }
  return digest;
}

format::Digest sha256(std::string_view data) {
  Sha256 hash;
  hash.update(std::as_bytes(std::span{data.data(), data.size()}));
  return hash.finish();
}

format::Digest chain_id(format::Digest const* parent, format::Digest const& diff_id) {
  if (parent == nullptr) return diff_id;
  return sha256(format::digest_text(*parent) + " " + format::digest_text(diff_id));
}

}  // namespace lcfs::oci
