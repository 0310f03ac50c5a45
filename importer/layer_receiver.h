// SPDX-License-Identifier: Apache-2.0
// One layer blob on its way into the store:
//
//   push() -> [decode] -> { hash | parse tar -> Ingest }
//
// Decoding is done by whoever pushes; hashing (of the blob as it came and of the plain tar, both at
// once) and parsing are a thread each, behind bounded queues, when fewer layers are decoded than
// there are cores, and else done by whoever pushes too (importer/stage.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "engine/import.h"
#include "format/layout.h"
#include "format/result.h"
#include "importer/chunk.h"

namespace lcfs::importer {

// More than that in one layer is taken for a bomb.
inline constexpr std::uint64_t kMaxPlainLayer = std::uint64_t{1} << 40;
// Names and attributes of a layer wait in memory.  LayerSink counts what they need in the store, at
// least.
inline constexpr std::uint64_t kMaxLayerMetadata = std::uint64_t{1} << 30;

// What all parts of an import share.
struct Common {
  ChunkPool pool{};
  std::atomic<bool> const* stop = nullptr;   // null: never
  int input = 0;                             // what "-" means
  std::uint64_t max_plain = kMaxPlainLayer;  // tests make it small
  std::uint64_t free_bytes =
      ~std::uint64_t{0};  // of the store: what needs more is not even collected
  unsigned cores = std::thread::hardware_concurrency();
  std::atomic<unsigned> receiving{0};  // layers

  [[nodiscard]] bool cores_taken() const {
    return receiving.load(std::memory_order_relaxed) >= cores;
  }

  [[nodiscard]] bool stopped() const {
    return stop != nullptr && stop->load(std::memory_order_relaxed);
  }
};

[[nodiscard]] inline Error interrupted() { return Error{Errc::kInterrupted, "interrupted"}; }

struct ReceivedLayer {
  std::unique_ptr<Ingest> ingest{};  // finished
  BlobInfo blob{};                   // the bytes pushed
  Digest diff_id{};                  // of the plain tar
  std::uint64_t plain_bytes = 0;
};

// One thread pushes.  Errors have no path yet; the first that happened in any of the threads wins.
class LayerReceiver {
 public:
  LayerReceiver(Common& common, std::unique_ptr<Ingest> ingest);
  ~LayerReceiver();  // gives up what is not finished
  LayerReceiver(LayerReceiver const&) = delete;
  LayerReceiver& operator=(LayerReceiver const&) = delete;

  // The next bytes of the blob.  The first push tells the compression: 6 bytes or more, unless that
  // is all.
  Status push(Slice bytes);
  // That was all.
  Status end();
  // After end(): waits for the result.  After an error of push() or end(): that error.
  Result<ReceivedLayer> wait();

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace lcfs::importer
