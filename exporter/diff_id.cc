// SPDX-License-Identifier: Apache-2.0
#include "exporter/diff_id.h"

#include "exporter/blob.h"
#include "exporter/layer_tar.h"

namespace lcfs::exporter {
namespace {

struct Nowhere final : ByteSink {
  Status write(std::span<std::byte const>) override { return {}; }
};

Result<Digest> made_diff_id(LayerTar& tar, std::atomic<bool> const* stop) {
  BlobPlan plan;
  plan.write_tar = [&tar](TarSink& out) { return tar.write(out); };
  plan.read_bodies = [&tar](std::span<Layer::ReadRequest const> requests) {
    return tar.read_bodies(requests);
  };
  plan.stop = stop;
  Nowhere nowhere;
  LCFS_TRY_ASSIGN(auto const made, make_blob(plan, nowhere));
  return made.diff_id;
}

}  // namespace

Result<std::optional<bool>> makes_its_diff_id(Store& store, LayerInfo const& info,
                                              std::atomic<bool> const* stop) {
  auto const tar = LayerTar::open(store, info, {}, [](std::string const&) {});
  bool const kept = info.skeleton_blocks != 0;
  if (!tar && !kept && tar.error().code == Errc::kInvalid)
    return std::optional<bool>();  // it cannot be written as a tar
  if (!tar) return tar.error();
  auto const made = made_diff_id(**tar, stop);
  if (!made) return made.error();
  bool const same = *made == info.diff_id;
  // A layer that was committed for an image has its diff_id from such a tar; for an imported one
  // the order is unknown.
  if (!kept && !same) return std::optional<bool>();
  return std::optional<bool>(same);
}

}  // namespace lcfs::exporter
