// SPDX-License-Identifier: Apache-2.0
// The skeleton of a layer's tar (what others call tar-split): all bytes of the tar that the layer's
// tree cannot reproduce - headers, padding, order, what follows the end - with the places of the
// files' bodies.  Skeleton and bodies together are the tar, byte for byte.
// Specification of the stream: doc/format.md, "Skeleton".
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/types.h"

namespace lcfs {

class Store;
class Layer;

// One piece of a tar.
struct SkeletonPiece {
  enum Kind : std::uint8_t { kEnd, kLiteral, kBody };
  Kind kind = kEnd;
  std::span<std::byte const> bytes{};    // kLiteral: valid until the next call
  std::uint64_t file = 0;                // kBody: number of the file in the layer's delta
  std::uint64_t offset = 0, length = 0;  // kBody: which bytes of it
};

// The skeleton of a layer in a store.  It holds the layer, so the layer may be removed meanwhile.
// Threads: one.
class Skeleton {
 public:
  // Null: the layer has none.
  static Result<std::unique_ptr<Skeleton>> open(Store& store, LayerId layer);

  ~Skeleton();
  [[nodiscard]] BlobInfo const& blob() const;
  [[nodiscard]] Inode inode_of(std::uint64_t file) const;
  // Fails with kCorrupt and the layer's name if a checksum or the stream is wrong.
  Result<SkeletonPiece> next();

 private:
  struct State;
  explicit Skeleton(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace lcfs
