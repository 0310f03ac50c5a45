// SPDX-License-Identifier: Apache-2.0
#include "importer/layer_receiver.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "engine/sync.h"
#include "format/hash.h"
#include "importer/decompress.h"
#include "importer/layer_sink.h"
#include "importer/queue.h"
#include "importer/sha256.h"
#include "importer/tar_reader.h"

namespace lcfs::importer {
namespace {

// Chunks that may wait before hashing, and before parsing: mostly the same ones.
constexpr std::size_t kQueueDepth = 8;

struct HashItem {
  Slice bytes{};
  bool plain = false;  // of the plain tar; else of the compressed blob
};

}  // namespace

struct LayerReceiver::Impl {
  Impl(Common& shared, std::unique_ptr<Ingest> into)
      : common(shared), ingest(std::move(into)), sink(*ingest, shared.free_bytes), reader(sink) {}

  ~Impl() { give_up(); }

  // ---- the pushing thread

  Status push(Slice bytes) {
    if (common.stopped()) return fail(interrupted());
    if (blob.size == 0 && !bytes.empty()) LCFS_TRY(recognize(bytes));
    blob.size += bytes.bytes.size();
    if (probe.size() < kBlobProbe) {
      auto const part = bytes.bytes.first(std::min<std::size_t>(bytes.bytes.size(), kBlobProbe - probe.size()));
      probe.insert(probe.end(), part.begin(), part.end());
    }
    if (!decoder) return deliver(std::move(bytes));
    LCFS_TRY(hash_blob(bytes));
    return decode(bytes.bytes);
  }

  Status recognize(Slice const& head) {
    Compression const compression = sniff(head.bytes);
    if (compression == Compression::kNone) return {};
    blob.compression = compression == Compression::kGzip ? BlobCompression::kGzip : BlobCompression::kZstd;
    auto made = make_decoder(compression);
    if (!made) return fail(std::move(made).error());
    decoder = *std::move(made);
    return {};
  }

  Status decode(std::span<std::byte const> in) {
    for (;;) {
      if (!chunk) {
        chunk = common.pool.get();
        room = {chunk.get(), kChunkBytes};
      }
      if (auto ok = decoder->run(in, room); !ok) return fail(std::move(ok).error());
      if (!room.empty()) return {};  // so `in` is used up
      LCFS_TRY(flush_chunk());
    }
  }

  Status flush_chunk() {
    if (!chunk) return {};
    Slice full{chunk, {chunk.get(), kChunkBytes - room.size()}};
    chunk.reset();
    if (full.empty()) return {};
    return deliver(std::move(full));
  }

  // Plain bytes, in order.
  Status deliver(Slice bytes) {
    if (common.stopped()) return fail(interrupted());
    plain_bytes += bytes.bytes.size();
    if (plain_bytes > common.max_plain) {
      return fail({Errc::kUnsupported, fmt::format("layer is larger than {} bytes", common.max_plain)});
    }
    if (!threads_started) {
      if (first.empty()) {
        first = std::move(bytes);
        return {};
      }
      start_threads();
      LCFS_TRY(fan_out(std::exchange(first, {})));
    }
    return fan_out(std::move(bytes));
  }

  Status fan_out(Slice bytes) {
    if (!to_hash.push({bytes, true}) || !to_parse.push(std::move(bytes))) return failure();
    return {};
  }

  Status hash_blob(Slice const& bytes) {
    if (!threads_started) {
      blob_hash.update(bytes.bytes);
    } else if (!to_hash.push({bytes, false})) {
      return failure();
    }
    return {};
  }

  Status end() {
    blob.probe_checksum = crc32c(probe);
    auto const head = std::string_view(reinterpret_cast<char const*>(probe.data()), probe.size()).substr(0, kBlobHead);
    blob.head = head;
    std::vector<std::byte>().swap(probe);
    if (decoder) {
      LCFS_TRY(flush_chunk());
      if (auto ok = decoder->finish(); !ok) return fail(std::move(ok).error());
    }
    if (threads_started) {
      to_hash.close();
      to_parse.close();
      return {};
    }
    plain_hash.update(first.bytes);
    auto done = reader.feed(first.bytes);
    if (done) done = finish_parsing();
    if (!done) return fail(std::move(done).error());
    return {};
  }

  Result<ReceivedLayer> wait() {
    join();
    if (auto ok = failure(); !ok) return std::move(ok).error();
    ReceivedLayer layer;
    layer.ingest = std::move(ingest);
    layer.diff_id = plain_hash.finish();
    layer.blob = std::move(blob);
    layer.blob.digest = decoder ? blob_hash.finish() : layer.diff_id;
    layer.plain_bytes = plain_bytes;
    return layer;
  }

  // ---- the threads

  void start_threads() {
    threads_started = true;
    hasher = std::thread([this] { hash_all(); });
    parser = std::thread([this] { parse_all(); });
  }

  void hash_all() {
    while (auto item = to_hash.pop()) (item->plain ? plain_hash : blob_hash).update(item->bytes.bytes);
  }

  void parse_all() {
    Status done;
    while (auto bytes = to_parse.pop()) {
      done = reader.feed(bytes->bytes);
      if (!done) break;
    }
    if (done && !failure()) return;  // somebody else's error
    if (done) done = finish_parsing();
    if (!done) (void)fail(std::move(done).error());
  }

  Status finish_parsing() {
    LCFS_TRY(reader.finish());
    return ingest->finish();
  }

  void join() {
    if (hasher.joinable()) hasher.join();
    if (parser.joinable()) parser.join();
  }

  void give_up() {
    to_hash.cancel();
    to_parse.cancel();
    join();
  }

  // ---- the first error

  // Remembers `error` if it is the first, wakes everybody, and returns the first.
  Status fail(Error error) {
    {
      Lock const lock(mu);
      if (!first_error) first_error = std::move(error);
    }
    to_hash.cancel();
    to_parse.cancel();
    return failure();
  }

  Status failure() {
    Lock const lock(mu);
    if (first_error) return Error(*first_error);
    return {};
  }

  Common& common;
  std::unique_ptr<Ingest> ingest;
  LayerSink sink;
  TarReader reader;

  // The pushing thread's own.
  std::unique_ptr<Decoder> decoder{};   // null: the blob is plain
  std::shared_ptr<std::byte> chunk{};   // being filled
  std::span<std::byte> room{};          // rest of it
  Slice first{};                        // held back until there is more, or no more
  BlobInfo blob{};
  std::vector<std::byte> probe{};       // the blob's first bytes
  std::uint64_t plain_bytes = 0;
  bool threads_started = false;

  Sha256 blob_hash{}, plain_hash{};     // the hasher's while it runs
  BoundedQueue<HashItem> to_hash{2 * kQueueDepth};
  BoundedQueue<Slice> to_parse{kQueueDepth};
  std::thread hasher{}, parser{};

  Mutex mu;
  std::optional<Error> first_error LCFS_GUARDED_BY(mu);
};

LayerReceiver::LayerReceiver(Common& common, std::unique_ptr<Ingest> ingest)
    : impl_(std::make_unique<Impl>(common, std::move(ingest))) {}
LayerReceiver::~LayerReceiver() = default;
Status LayerReceiver::push(Slice bytes) { return impl_->push(std::move(bytes)); }
Status LayerReceiver::end() { return impl_->end(); }
Result<ReceivedLayer> LayerReceiver::wait() { return impl_->wait(); }

}  // namespace lcfs::importer
