// SPDX-License-Identifier: Apache-2.0
// SHA-256 (FIPS 180-4) as a stream, and the digests the OCI image spec makes of it.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "format/layout.h"

struct evp_md_ctx_st;

namespace lcfs::importer {

class Sha256 {
 public:
  Sha256();
  void update(std::span<std::byte const> data);
  // The digest of everything so far; the object is done with.
  [[nodiscard]] Digest finish();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* ctx) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> ctx_;
};

[[nodiscard]] Digest sha256(std::string_view data);

// OCI image-spec config.md, "Layer ChainID": of a layer on the chain `parent` (null: the first layer).
[[nodiscard]] Digest chain_id(Digest const* parent, Digest const& diff_id);

}  // namespace lcfs::importer
