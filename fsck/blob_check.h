// SPDX-License-Identifier: Apache-2.0
// Checks the raw documents of images, fed with their chunks in key order: complete, and matching
// their digests.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "format/records.h"
#include "fsck/vocabulary.h"

namespace lcfs::fsck {

class BlobCheck {
 public:
  // `say` gets an offset on the device and the problem there.
  explicit BlobCheck(std::function<void(std::uint64_t at, std::string text)> say);
  ~BlobCheck();
  BlobCheck(BlobCheck const&) = delete;
  BlobCheck& operator=(BlobCheck const&) = delete;

  void begin_image(ImageInfo const& image, std::uint64_t at);
  void chunk(Key const& key, Bytes value, std::uint64_t at);
  void gap();     // records are missing here: the current image is not judged
  void finish();  // of the current image; idempotent

 private:
  struct Hash;
  void begin_document(BlobKind kind);
  void end_document();

  std::function<void(std::uint64_t, std::string)> say_;
  std::unique_ptr<Hash> hash_;
  bool have_image_ = false, quiet_ = false;
  ImageInfo image_{};
  std::uint64_t image_at_ = 0;
  std::uint32_t kind_ = 0;  // of the current document, 0: none yet
  std::uint64_t size_ = 0;  // its bytes so far
  std::uint32_t next_ = 0;  // its next chunk
  std::uint32_t seen_ = 0;  // bit k: document k was there
};

}  // namespace lcfs::fsck
