// SPDX-License-Identifier: Apache-2.0
#include "importer/heal.h"

#include <algorithm>
#include <map>

#include "engine/import.h"
#include "importer/layer_receiver.h"
#include "importer/plan.h"
#include "importer/platform.h"
#include "importer/quote.h"
#include "importer/source.h"
#include "importer/stream_archive.h"
#include "verify/heal.h"
#include "verify/held.h"
#include "verify/verify.h"

namespace lcfs::importer {
namespace {

Result<ReceivedLayer> receive(SeekableArchive& archive, ImportTransaction& transaction,
                              Common& common, std::string const& member) {
  LCFS_TRY_ASSIGN(auto opened, archive.open(member));
  LCFS_TRY_ASSIGN(auto ingest, transaction.begin_layer());
  LayerReceiver receiver(common, std::move(ingest));
  for (std::uint64_t at = 0; at < opened.size;) {
    auto const n = static_cast<std::size_t>(std::min<std::uint64_t>(kChunkBytes, opened.size - at));
    auto chunk = common.pool.get();
    LCFS_TRY(opened.read(at, {chunk.get(), n}));
    LCFS_TRY(receiver.push({chunk, {chunk.get(), n}}));
    at += n;
  }
  LCFS_TRY(receiver.end());
  return receiver.wait();
}

}  // namespace

Result<HealReport> heal_from_archive(Store& store, ImportOptions const& options) {
  Common common;
  common.stop = options.stop;
  common.input = options.input;
  PlanOptions wanted{options.names, {}};
  if (!options.platform.empty()) {
    LCFS_TRY_ASSIGN(wanted.platform, parse_platform(options.platform));
  }
  LCFS_TRY_ASSIGN(auto opened, open_archive(options.source, common, [](std::uint64_t) {}));
  if (!opened.seekable) {
    return Error{Errc::kUnsupported,
                 "healing needs the archive as a file or directory: it is read a second time where "
                 "something is damaged",
                 0, opened.name, kNoOffset};
  }
  auto& archive = *opened.seekable;
  LCFS_TRY_ASSIGN(auto const images, plan_images(archive, wanted));
  std::map<LayerId, PlannedLayer const*> present;
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
  // What is found to be damaged keeps its place until it is healed, whoever removes it meanwhile.
  LCFS_TRY_ASSIGN(auto const held, hold_layers(store, ids));
  std::map<LayerId, std::vector<Damage>> by_owner;
  VerifyOptions how;
  how.threads = options.threads == 0 ? how.threads : options.threads;
  how.stop = options.stop;
  LCFS_TRY(verify_layers(store, ids, how, [&](Damage const& d) {
    ++report.damaged;
    by_owner[d.owner].push_back(d);
  }));
  ImportTransaction transaction(store);  // ends without a commit: what was received goes again
  for (auto const& [owner, damages] : by_owner) {
    auto const it = present.find(owner);
    if (it == present.end()) continue;
    auto got = receive(archive, transaction, common, it->second->member);
    if (!got) return in_member(std::move(got).error(), archive.name(), it->second->member);
    if (got->diff_id != it->second->diff_id) {
      return in_member(Error{Errc::kCorrupt,
                             "the layer in the archive is not what its image says",
                             0,
                             {},
                             kNoOffset},
                       archive.name(), it->second->member);
    }
    LCFS_TRY_ASSIGN(auto const healed, heal_blocks(store, *got->ingest, damages));
    report.healed += healed;
  }
  return report;
}

}  // namespace lcfs::importer
