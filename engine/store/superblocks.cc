// SPDX-License-Identifier: Apache-2.0
#include "engine/store/superblocks.h"

#include <algorithm>
#include <utility>

#include "device/written.h"

namespace lcfs {

Result<Superblocks::Found> Superblocks::find(Device& device) {
  std::optional<SuperblockInfo> found[2];
  std::optional<Error> errors[2];
  AlignedBuffer buffer(kBlockSize);
  for (std::uint32_t slot = 0; slot < 2; ++slot) {
    if (device.size() < (kSlotBlock[slot] + 1) * kBlockSize) {
      errors[slot] = Error::invalid("not an lcfs store: too small");
      continue;
    }
    if (auto r = device.read(kSlotBlock[slot] * kBlockSize, buffer.span()); !r) {
      errors[slot] = std::move(r).error();
      continue;
    }
    auto info = parse_superblock(buffer.span(), {slot, device.size(), false});
    if (info) {
      found[slot] = *std::move(info);
    } else {
      errors[slot] = std::move(info).error();
      if (errors[slot]->offset != kNoOffset) errors[slot]->offset += kSlotBlock[slot] * kBlockSize;
    }
  }
  for (auto const& e : errors) {
    // A whole superblock of a newer lcfs: to fall back to the other slot would undo what that lcfs
    // did.
    if (e && e->code == Errc::kUnsupported) {
      Error newer = *e;
      newer.path = device.name();
      return newer;
    }
  }
  if (!found[0] && !found[1]) {
    // Of two bad slots, report the one that at least looks like ours.
    bool const second = errors[0]->code == Errc::kInvalid && errors[1]->code != Errc::kInvalid;
    Error e = *errors[second ? 1 : 0];
    e.path = device.name();
    return e;
  }
  Found slots;
  bool const second = !found[0] || (found[1] && found[1]->generation > found[0]->generation);
  slots.current = *found[second ? 1 : 0];
  slots.older = found[second ? 0 : 1];
  // The newer one was cut off in its making: the one before is in force, and the slot is free.
  if (slots.older && !is_whole(device, slots.current))
    slots.current = *std::exchange(slots.older, std::nullopt);
  return slots;
}

Status Superblocks::write(Device& device, SuperblockInfo const& superblock) {
  AlignedBuffer slot(kBlockSize);
  encode_superblock(superblock, std::span<std::byte, kBlockSize>(slot.data(), kBlockSize));
  return device.write(kSlotBlock[superblock.slot] * kBlockSize, slot.span());
}

void Superblocks::publish(SuperblockInfo const& superblock, SpaceMap& space) {
  Lock lock(mu_);
  in_force_ = superblock;
  space.made_durable();
}

Status Superblocks::confirm() {
  Lock lock(mu_);
  if (in_force_.written.empty()) return {};
  // The list stays where it is: only the superblock's sector changes, which a device writes whole
  // or not at all.
  AlignedBuffer slot(kBlockSize), bare(kBlockSize);
  encode_superblock(in_force_, std::span<std::byte, kBlockSize>(slot.data(), kBlockSize));
  in_force_.written.clear();
  encode_superblock(in_force_, std::span<std::byte, kBlockSize>(bare.data(), kBlockSize));
  std::copy_n(bare.data(), sizeof(Superblock), slot.data());
  return device_.write(kSlotBlock[in_force_.slot] * kBlockSize, slot.span());
}

}  // namespace lcfs
