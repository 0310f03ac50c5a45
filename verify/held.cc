// SPDX-License-Identifier: Apache-2.0
#include "verify/held.h"

#include "engine/store_impl.h"

namespace lcfs {

Result<HeldLayers> hold_layers(Store& store, std::span<LayerId const> ids) {
  bool const writable = !store.impl().options.read_only;
  HeldLayers held;
  // As a diff does it: the first checkpoint gives everything written until now a place, the second
  // makes sure that what the records say behind the pin is on the device.
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

}  // namespace lcfs
