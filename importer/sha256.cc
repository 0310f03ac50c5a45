// SPDX-License-Identifier: Apache-2.0
#include "importer/sha256.h"

#include <openssl/evp.h>

#include <new>

#include "format/records.h"

namespace lcfs::importer {

void Sha256::Free::operator()(evp_md_ctx_st* ctx) const { EVP_MD_CTX_free(ctx); }

// OpenSSL fails here only when memory is out or SHA-256 is switched off by policy: nothing can be done either way.
Sha256::Sha256() : ctx_(EVP_MD_CTX_new()) {
  if (!ctx_ || EVP_DigestInit_ex(ctx_.get(), EVP_sha256(), nullptr) != 1) throw std::bad_alloc();
}

void Sha256::update(std::span<std::byte const> data) {
  if (EVP_DigestUpdate(ctx_.get(), data.data(), data.size()) != 1) throw std::bad_alloc();
}

Digest Sha256::finish() {
  Digest digest{};
  if (EVP_DigestFinal_ex(ctx_.get(), digest.data(), nullptr) != 1) throw std::bad_alloc();
  return digest;
}

Digest sha256(std::string_view data) {
  Sha256 hash;
  hash.update(std::as_bytes(std::span{data.data(), data.size()}));
  return hash.finish();
}

Digest chain_id(Digest const* parent, Digest const& diff_id) {
  if (parent == nullptr) return diff_id;
  return sha256(digest_text(*parent) + " " + digest_text(diff_id));
}

}  // namespace lcfs::importer
