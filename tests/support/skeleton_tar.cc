// SPDX-License-Identifier: Apache-2.0
#include "tests/support/skeleton_tar.h"

#include <span>

#include "engine/import/skeleton_stream.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

Result<std::string> tar_from_skeleton(Store& store, LayerId id) {
  LCFS_TRY_ASSIGN(auto skeleton, Skeleton::open(store, id));
  if (!skeleton) return Error::not_found("no skeleton");
  LCFS_TRY_ASSIGN(auto const layer, store.layer(id));
  std::string tar;
  for (;;) {
    LCFS_TRY_ASSIGN(auto const piece, skeleton->next());
    if (piece.kind == SkeletonPiece::kEnd) return tar;
    if (piece.kind == SkeletonPiece::kLiteral) {
      tar.append(reinterpret_cast<char const*>(piece.bytes.data()), piece.bytes.size());
      continue;
    }
    std::string body(piece.length, '?');
    Layer::ReadRequest const request{skeleton->inode_of(piece.file), piece.offset,
                                     std::as_writable_bytes(std::span(body))};
    LCFS_TRY(layer->read_many({&request, 1}));
    tar += body;
  }
}

}  // namespace lcfs::test
