// SPDX-License-Identifier: Apache-2.0
// Receives one layer blob into the store:
//
//   push() -> [decode] -> { hash | parse tar -> Ingest }
//
// The pushing thread decodes.  Hashing (of the blob and of the plain tar, both at once) and parsing
// have a thread each, behind bounded queues, while fewer layers are received than there are cores;
// otherwise the pushing thread does them too (importer/stage.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "base/result.h"
#include "engine/import.h"
#include "format/layout.h"
#include "importer/chunk.h"

namespace lcfs::importer {

// A larger layer is refused as a decompression bomb.
inline constexpr std::uint64_t kMaxPlainLayer = std::uint64_t{1} << 40;
// Names and attributes of a layer wait in memory.  LayerSink counts the space they need at least in
// the store.
inline constexpr std::uint64_t kMaxLayerMetadata = std::uint64_t{1} << 30;

// What all parts of an import share.
struct Common {
  ChunkPool pool{};
  std::atomic<bool> const* stop = nullptr;   // null: never
  int input = 0;                             // the descriptor for "-"
  std::uint64_t max_plain = kMaxPlainLayer;  // tests use a small one
  // Of the store: a layer that needs more is refused early.
  std::uint64_t free_bytes = ~std::uint64_t{0};
  unsigned cores = std::thread::hardware_concurrency();
  std::atomic<unsigned> receiving{0};  // layers

  [[nodiscard]] bool cores_taken() const {
    return receiving.load(std::memory_order_relaxed) >= cores;
  }

  [[nodiscard]] bool stopped() const {
    return stop != nullptr && stop->load(std::memory_order_relaxed);
  }
};

struct ReceivedLayer {
  std::unique_ptr<Ingest> ingest{};  // finished
  BlobInfo blob{};                   // the bytes pushed
  Digest diff_id{};                  // of the plain tar
  std::uint64_t plain_bytes = 0;
};

// One thread pushes.  Errors have no path yet; the first error of any thread is reported.
class LayerReceiver {
 public:
  LayerReceiver(Common& common, std::unique_ptr<Ingest> ingest);
  ~LayerReceiver();  // cancels what is not finished
  LayerReceiver(LayerReceiver const&) = delete;
  LayerReceiver& operator=(LayerReceiver const&) = delete;

  // The next bytes of the blob.  The first push determines the compression: 6 bytes or more, unless
  // the blob is shorter.
  Status push(Slice bytes);
  // The blob is complete.
  Status end();
  // After end(): waits for the result.  After an error of push() or end(): that error.
  Result<ReceivedLayer> wait();

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace lcfs::importer
