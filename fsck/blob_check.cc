// SPDX-License-Identifier: Apache-2.0
#include "fsck/blob_check.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>
#include <utility>

namespace lcfs::fsck {

struct BlobCheck::Hash {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  Hash() = default;
  Hash(Hash const&) = delete;
  Hash& operator=(Hash const&) = delete;
  ~Hash() { EVP_MD_CTX_free(context); }
};

namespace {

constexpr std::array<BlobKind, 3> kKinds{BlobKind::kConfig, BlobKind::kManifest, BlobKind::kIndex};

char const* kind_name(std::uint32_t kind) {
  switch (static_cast<BlobKind>(kind)) {
    case BlobKind::kConfig: return "config";
    case BlobKind::kManifest: return "manifest";
    case BlobKind::kIndex: return "index";
  }
  return "unknown document";
}

std::uint64_t size_in(ImageInfo const& image, std::uint32_t kind) {
  switch (static_cast<BlobKind>(kind)) {
    case BlobKind::kConfig: return image.config_size;
    case BlobKind::kManifest: return image.manifest_size;
    case BlobKind::kIndex: return image.index_size;
  }
  return 0;
}

}  // namespace

BlobCheck::BlobCheck(std::function<void(std::uint64_t, std::string)> say)
    : say_(std::move(say)), hash_(std::make_unique<Hash>()) {}

BlobCheck::~BlobCheck() = default;

void BlobCheck::begin_image(ImageInfo const& image, std::uint64_t at) {
  finish();
  have_image_ = true;
  quiet_ = false;
  image_ = image;
  image_at_ = at;
  seen_ = 0;
}

void BlobCheck::begin_document(BlobKind kind) {
  kind_ = static_cast<std::uint32_t>(kind);
  seen_ |= 1u << kind_;
  size_ = 0;
  next_ = 0;
  EVP_DigestInit_ex(hash_->context, EVP_sha256(), nullptr);
}

void BlobCheck::chunk(Key const& key, Bytes value, std::uint64_t at) {
  if (!have_image_ || key.inode != image_.id) {
    finish();
    if (!quiet_) say_(at, fmt::format("document of image {}, which does not exist", key.inode));
    quiet_ = true;  // once per stray document
    return;
  }
  auto const kind = static_cast<std::uint32_t>(key.offset >> 32);
  auto const n = static_cast<std::uint32_t>(key.offset);
  if (kind == 0 || kind > kKinds.size()) {
    if (!quiet_) say_(at, fmt::format("image {}: document of unknown kind {}", image_.id, kind));
    return;
  }
  if (kind != kind_) {
    end_document();
    begin_document(static_cast<BlobKind>(kind));
  }
  if (quiet_) return;
  auto const total = size_in(image_, kind);
  // size_ never passes total: a chunk that would do so is refused below.
  auto const left = total - size_;
  if (n != next_ || value.size() != std::min<std::uint64_t>(left, kBlobChunk) || value.empty()) {
    say_(at, fmt::format("image {}: {} of {} bytes: chunk {} of {} bytes, expected chunk {} of {}",
                         image_.id, kind_name(kind), total, n, value.size(), next_,
                         std::min<std::uint64_t>(left, kBlobChunk)));
    quiet_ = true;
    return;
  }
  EVP_DigestUpdate(hash_->context, value.data(), value.size());
  size_ += value.size();
  ++next_;
}

void BlobCheck::end_document() {
  if (kind_ == 0) return;
  auto const kind = std::exchange(kind_, 0);
  if (quiet_) return;
  if (size_ != size_in(image_, kind))
    return say_(image_at_, fmt::format("image {}: {} has {} of {} bytes", image_.id,
                                       kind_name(kind), size_, size_in(image_, kind)));
  Digest digest{};
  unsigned length = 0;
  EVP_DigestFinal_ex(hash_->context, digest.data(), &length);
  auto const& expected = kind == static_cast<std::uint32_t>(BlobKind::kConfig)
                             ? image_.config_digest
                             : image_.manifest_digest;
  if (kind != static_cast<std::uint32_t>(BlobKind::kIndex) && digest != expected)
    say_(image_at_, fmt::format("image {}: {} is {}, expected {}", image_.id, kind_name(kind),
                                digest_text(digest), digest_text(expected)));
}

void BlobCheck::gap() { quiet_ = true; }

void BlobCheck::finish() {
  if (!have_image_) return;
  end_document();
  have_image_ = false;
  if (quiet_) return;
  for (auto const kind : kKinds) {
    auto const k = static_cast<std::uint32_t>(kind);
    if ((seen_ & 1u << k) == 0 && size_in(image_, k) != 0)
      say_(image_at_, fmt::format("image {}: {} of {} bytes is missing", image_.id, kind_name(k),
                                  size_in(image_, k)));
  }
}

}  // namespace lcfs::fsck
