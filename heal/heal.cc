// SPDX-License-Identifier: Apache-2.0
#include "heal/heal.h"

#include <algorithm>
#include <map>

#include "engine/import.h"
#include "heal/blocks.h"
#include "importer/layer_receiver.h"
#include "importer/plan.h"
#include "importer/source.h"
#include "importer/stream_archive.h"
#include "oci/platform.h"
#include "oci/quote.h"
#include "verify/held.h"
#include "verify/verify.h"

namespace lcfs::heal {
namespace {

Result<importer::ReceivedLayer> receive(importer::SeekableArchive& archive,
                                        ImportTransaction& transaction, importer::Common& common,
                                        std::string const& member) {
  LCFS_TRY_ASSIGN(auto opened, archive.open(member));
  LCFS_TRY_ASSIGN(auto ingest, transaction.begin_layer());
  importer::LayerReceiver receiver(common, std::move(ingest));
  for (std::uint64_t at = 0; at < opened.size;) {
    auto const n =
        static_cast<std::size_t>(std::min<std::uint64_t>(importer::kChunkBytes, opened.size - at));
    auto chunk = common.pool.get();
    LCFS_TRY(opened.read(at, {chunk.get(), n}));
    LCFS_TRY(receiver.push({chunk, {chunk.get(), n}}));
    at += n;
  }
  LCFS_TRY(receiver.end());
  return receiver.wait();
}

}  // namespace

Result<HealReport> heal_from_archive(Store& store, importer::ImportOptions const& options) {
  importer::Common common;
  common.stop = options.stop;
  common.input = options.input;
  importer::PlanOptions wanted{options.names, {}};
  if (!options.platform.empty()) {
    LCFS_TRY_ASSIGN(wanted.platform, oci::parse_platform(options.platform));
  }
  LCFS_TRY_ASSIGN(auto opened,
                  importer::open_archive(options.source, common, [](std::uint64_t) {}));
  if (!opened.seekable) {
    return Error::unsupported(
               "cannot heal from a pipe, because damaged parts are read a second time; "
               "save the archive to a file first")
        .in(opened.name);
  }
  auto& archive = *opened.seekable;
  LCFS_TRY_ASSIGN(auto const images, importer::plan_images(archive, wanted));
  std::map<LayerId, importer::PlannedLayer const*> present;
  for (auto const& image : images) {
    for (auto const& layer : image.layers) {
      if (auto const id = store.find_chain(layer.chain_id)) present.emplace(*id, &layer);
    }
  }
  std::vector<LayerId> ids;
  for (auto const& entry : present) ids.push_back(entry.first);
  HealReport report;
  report.layers = ids.size();
  if (ids.empty()) return report;
  // The pin keeps damaged blocks in place until they are healed, even if a layer is removed.
  LCFS_TRY_ASSIGN(auto const held, verify::hold_layers(store, ids));
  std::map<LayerId, std::vector<verify::Damage>> by_owner;
  verify::VerifyOptions how;
  how.threads = options.threads == 0 ? how.threads : options.threads;
  how.stop = options.stop;
  LCFS_TRY(verify::verify_layers(store, ids, how, [&](verify::Damage const& d) {
    ++report.damaged;
    by_owner[d.owner].push_back(d);
  }));
  ImportTransaction transaction(store);  // ends without a commit: the received layers are discarded
  for (auto const& [owner, damages] : by_owner) {
    auto const it = present.find(owner);
    if (it == present.end()) continue;
    auto got = receive(archive, transaction, common, it->second->member);
    if (!got) return oci::in_member(std::move(got).error(), archive.name(), it->second->member);
    if (got->diff_id != it->second->diff_id) {
      return oci::in_member(Error::corrupt("the layer does not match the digest in its image"),
                            archive.name(), it->second->member);
    }
    LCFS_TRY_ASSIGN(auto const healed, heal_blocks(store, *got->ingest, damages));
    report.healed += healed;
  }
  return report;
}

}  // namespace lcfs::heal
