// SPDX-License-Identifier: Apache-2.0
#include "importer/import.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <set>
#include <thread>
#include <utility>

#include "engine/import.h"
#include "importer/layer_receiver.h"
#include "importer/layer_set.h"
#include "importer/plan.h"
#include "importer/progress.h"
#include "importer/source.h"
#include "importer/stream_archive.h"
#include "oci/platform.h"
#include "oci/quote.h"

namespace lcfs::importer {
namespace {

constexpr unsigned kMaxThreads = 8;  // keeps the buffers in bounds on large machines

Result<PlanOptions> plan_options(ImportOptions const& options) {
  PlanOptions plan{options.names, {}};
  if (!options.platform.empty()) {
    LCFS_TRY_ASSIGN(plan.platform, oci::parse_platform(options.platform));
  }
  return plan;
}

// Receives the missing layers of a seekable archive, several at once.
class ParallelReader {
 public:
  ParallelReader(SeekableArchive& archive, LayerSet& layers, ImportTransaction& transaction,
                 Common& common, ProgressMeter& meter)
      : archive_(archive),
        layers_(layers),
        transaction_(transaction),
        common_(common),
        meter_(meter) {}

  Status run(unsigned threads) {
    LCFS_TRY(find_jobs());
    threads = static_cast<unsigned>(std::clamp<std::size_t>(jobs_.size(), 1, threads));
    std::vector<std::thread> workers;
    for (unsigned i = 1; i < threads; ++i) workers.emplace_back([this] { work(); });
    work();
    for (auto& worker : workers) worker.join();
    Lock const lock(mu_);
    if (error_) return *error_;
    return {};
  }

 private:
  struct Job {
    LayerSet::Wanted wanted{};
    Range range{};
  };

  Status find_jobs() {
    std::uint64_t total = 0;
    for (auto const& wanted : layers_.wanted()) {
      LCFS_TRY(layers_.check_present(*wanted.layer));
      jobs_.push_back({wanted, {}});
      total += *archive_.size(wanted.layer->member);
    }
    // The largest first, so that no core is left with a large one at the end.
    std::stable_sort(jobs_.begin(), jobs_.end(), [this](Job const& a, Job const& b) {
      return archive_.size(a.wanted.layer->member) > archive_.size(b.wanted.layer->member);
    });
    meter_.expect(total, jobs_.size());
    return {};
  }

  void work() {
    for (;;) {
      std::size_t const next = next_.fetch_add(1);
      if (next >= jobs_.size() || common_.stopped() || failed_) break;
      if (auto ok = receive(jobs_[next].wanted); !ok) {
        failed_ = true;
        Lock const lock(mu_);
        if (!error_) error_ = std::move(ok).error();
      }
    }
    if (!common_.stopped()) return;
    Lock const lock(mu_);
    if (!error_) error_ = Error::interrupted();
  }

  Status receive(LayerSet::Wanted const& wanted) {
    std::string const& member = wanted.layer->member;
    meter_.layer_begun(member);
    auto got = read_layer(member);
    if (!got) {
      // A worker that another's error stopped has nothing to report.
      return got.error().code == Errc::kInterrupted
                 ? got.error()
                 : oci::in_member(std::move(got).error(), archive_.name(), member);
    }
    LCFS_TRY(layers_.received(wanted.index, *std::move(got)));
    meter_.layer_done();
    return {};
  }

  Result<ReceivedLayer> read_layer(std::string const& member) {
    auto opened = archive_.open(member);
    if (!opened) {
      opened.error().path.clear();  // set again by in_member()
      return std::move(opened).error();
    }
    LCFS_TRY_ASSIGN(auto ingest, transaction_.begin_layer());
    LayerReceiver receiver(common_, std::move(ingest));
    for (std::uint64_t at = 0; at < opened->size;) {
      if (failed_) return Error::interrupted();
      auto const n =
          static_cast<std::size_t>(std::min<std::uint64_t>(kChunkBytes, opened->size - at));
      auto chunk = common_.pool.get();
      LCFS_TRY(opened->read(at, {chunk.get(), n}));
      LCFS_TRY(receiver.push({chunk, {chunk.get(), n}}));
      meter_.read(n);
      at += n;
    }
    LCFS_TRY(receiver.end());
    return receiver.wait();
  }

  SeekableArchive& archive_;
  LayerSet& layers_;
  ImportTransaction& transaction_;
  Common& common_;
  ProgressMeter& meter_;
  std::vector<Job> jobs_{};
  std::atomic<std::size_t> next_{0};
  std::atomic<bool> failed_{false};
  Mutex mu_;
  std::optional<Error> error_ LCFS_GUARDED_BY(mu_){};
};

class Importer {
 public:
  Importer(Store& store, ImportOptions const& options)
      : store_(store), options_(options), transaction_(store), meter_(options.progress) {
    common_.stop = options.stop;
    common_.input = options.input;
    auto const space = store.space();
    // History is freed when space is needed.
    common_.free_bytes = (space.free + space.history) * kBlockSize;
  }

  Result<ImportReport> run() {
    auto const start = std::chrono::steady_clock::now();
    LCFS_TRY_ASSIGN(auto const plan, plan_options(options_));
    LCFS_TRY_ASSIGN(auto opened, open_archive(options_.source, common_,
                                              [this](std::uint64_t n) { meter_.read(n); }));
    ImportReport report;
    if (opened.seekable) {
      LCFS_TRY(from_seekable(*opened.seekable, plan, report));
    } else {
      LCFS_TRY(from_stream(opened, plan, report));
    }
    if (common_.stopped()) return Error::interrupted();
    LCFS_TRY(transaction_.commit());
    meter_.finished();
    report.bytes_read = meter_.bytes();
    report.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return report;
  }

 private:
  Status from_seekable(SeekableArchive& archive, PlanOptions const& plan, ImportReport& report) {
    LCFS_TRY_ASSIGN(auto images, plan_images(archive, plan));
    LayerSet layers(store_, transaction_, archive);
    for (auto const& image : images) LCFS_TRY(layers.add(image));
    unsigned const cores = std::max(1u, std::thread::hardware_concurrency());
    unsigned const threads =
        std::min(options_.threads == 0 ? cores : options_.threads, kMaxThreads);
    LCFS_TRY(ParallelReader(archive, layers, transaction_, common_, meter_).run(threads));
    return add_images(images, layers, report);
  }

  Status from_stream(OpenedArchive& opened, PlanOptions const& plan, ImportReport& report) {
    meter_.expect(opened.size, 0);
    LCFS_TRY_ASSIGN(
        auto archive,
        StreamArchive::read(
            *opened.stream, opened.name, common_, [this] { return transaction_.begin_layer(); },
            [this](std::string const& member) { meter_.layer_begun(member); }));
    LCFS_TRY_ASSIGN(auto images, plan_images(*archive, plan));
    LayerSet layers(store_, transaction_, *archive);
    for (auto const& image : images) LCFS_TRY(layers.add(image));
    for (auto const& wanted : layers.wanted()) {
      if (common_.stopped()) return Error::interrupted();
      LCFS_TRY(layers.check_present(*wanted.layer));
      LCFS_TRY_ASSIGN(auto layer, archive->take_layer(wanted.layer->member));
      LCFS_TRY(layers.received(wanted.index, std::move(layer)));
      meter_.layer_done();
    }
    return add_images(images, layers, report);
  }

  Status add_images(std::vector<PlannedImage>& images, LayerSet const& layers,
                    ImportReport& report) {
    for (auto& image : images) {
      ImportedImage done{image.names, image.config_digest, image.manifest_digest, {}, {}};
      done.layers.reserve(image.layers.size());
      NewImage fresh;
      for (auto const& layer : image.layers) {
        LCFS_TRY_ASSIGN(auto known, layers.known(layer.chain_id));
        fresh.top_layer = known.id;
        bool const is_new = known.is_new && counted_.insert(known.id).second;
        done.layers.push_back(
            {std::move(known.name), layer.diff_id, layer.chain_id, known.bytes, is_new});
      }
      if (!done.layers.empty()) done.top_layer = done.layers.back().name;
      fresh.config_digest = image.config_digest;
      fresh.manifest_digest = image.manifest_digest;
      fresh.config = std::move(image.config);
      fresh.manifest = *image.manifest;
      if (image.index) fresh.index = *image.index;
      fresh.names = std::move(image.names);
      fresh.layer_count = static_cast<std::uint32_t>(image.layers.size());
      LCFS_TRY(transaction_.add_image(std::move(fresh)));
      report.images.push_back(std::move(done));
    }
    return {};
  }

  Store& store_;
  ImportOptions const& options_;
  Common common_{};
  ImportTransaction transaction_;
  ProgressMeter meter_;
  std::set<LayerId> counted_{};  // new layers that an image was credited with
};

}  // namespace

Result<ImportReport> import_archive(Store& store, ImportOptions const& options) {
  return Importer(store, options).run();
}

Result<std::vector<ListedImage>> list_archive(ImportOptions const& options) {
  Common common;
  common.stop = options.stop;
  common.input = options.input;
  LCFS_TRY_ASSIGN(auto const plan, plan_options(options));
  LCFS_TRY_ASSIGN(auto opened, open_archive(options.source, common, {}));
  std::unique_ptr<StreamArchive> streamed;
  if (opened.stream) {
    LCFS_TRY_ASSIGN(streamed, StreamArchive::read(*opened.stream, opened.name, common, {}, {}));
  }
  Archive& archive =
      streamed ? static_cast<Archive&>(*streamed) : static_cast<Archive&>(*opened.seekable);
  LCFS_TRY_ASSIGN(auto const images, plan_images(archive, plan));
  std::vector<ListedImage> listed;
  for (auto const& image : images) {
    ListedImage one{image.names,         oci::platform_text(image.platform),
                    image.config_digest, image.manifest_digest,
                    image.layers.size(), 0};
    for (auto const& layer : image.layers)
      one.bytes += archive.size(layer.member).value_or(layer.blob_size.value_or(0));
    listed.push_back(std::move(one));
  }
  return listed;
}

}  // namespace lcfs::importer
