// SPDX-License-Identifier: Apache-2.0
#include "verify/held.h"

#include "engine/store.h"

namespace lcfs::verify {

Result<HeldLayers> hold_layers(Store& store, std::span<LayerId const> ids) {
  bool const writable = !store.read_only();
  HeldLayers held;
  // As in a diff: the first checkpoint allocates everything written so far, the second makes sure
  // that everything the pinned records refer to is on the device.
  if (writable) LCFS_TRY(store.checkpoint());
  held.pin = store.pin();
  for (LayerId const id : ids) {
    auto info = store.layer_info(id);
    if (info)
      held.layers.push_back(*std::move(info));
    else if (info.error().code != Errc::kNotFound)
      return std::move(info).error();
  }
  if (writable) LCFS_TRY(store.checkpoint());
  held.superblock = store.superblock();
  return held;
}

}  // namespace lcfs::verify
