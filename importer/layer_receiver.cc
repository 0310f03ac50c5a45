// SPDX-License-Identifier: Apache-2.0
#include "importer/layer_receiver.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/sync.h"
#include "format/hash.h"
#include "importer/decompress.h"
#include "importer/layer_sink.h"
#include "importer/stage.h"
#include "importer/tar_reader.h"
#include "oci/sha256.h"

namespace lcfs::importer {
namespace {

// Chunks that may wait for hashing and for parsing; usually the same ones.
constexpr std::size_t kQueueDepth = 8;

// The next pieces of the plain tar and of the compressed blob.
struct HashItem {
  Slice plain{}, compressed{};
};

}  // namespace

struct LayerReceiver::Impl {
  Impl(Common& shared, std::unique_ptr<Ingest> into)
      : common(shared), ingest(std::move(into)), sink(*ingest, shared.free_bytes), reader(sink) {
    common.receiving.fetch_add(1, std::memory_order_relaxed);
  }
  ~Impl() { received(); }

  // ---- the pushing thread

  Status push(Slice bytes) {
    if (common.stopped()) return fail(Error::interrupted());
    if (blob.size == 0 && !bytes.empty()) LCFS_TRY(recognize(bytes));
    blob.size += bytes.bytes.size();
    if (probe.size() < kBlobProbe) {
      auto const part =
          bytes.bytes.first(std::min<std::size_t>(bytes.bytes.size(), kBlobProbe - probe.size()));
      probe.insert(probe.end(), part.begin(), part.end());
    }
    if (!decoder) return deliver(std::move(bytes));
    LCFS_TRY(hash_compressed());
    compressed = std::move(bytes);
    return decode(compressed.bytes);
  }

  Status recognize(Slice const& head) {
    Compression const compression = sniff(head.bytes);
    if (compression == Compression::kNone) return {};
    blob.compression =
        compression == Compression::kGzip ? BlobCompression::kGzip : BlobCompression::kZstd;
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
    if (common.stopped()) return fail(Error::interrupted());
    plain_bytes += bytes.bytes.size();
    if (plain_bytes > common.max_plain) {
      return fail(
          Error::unsupported(fmt::format("layer is larger than {} bytes", common.max_plain)));
    }
    // No threads for a layer that is one chunk: ten thousand tiny ones cost little.
    bool const here = plain_bytes <= kChunkBytes || common.cores_taken();
    // Hash the blob along with it as far as it has bytes: two streams at once take little more time
    // than one.
    auto const n = std::min(bytes.bytes.size(), compressed_left().bytes.size());
    HashItem item{bytes, compressed_left().part(0, n)};
    hashed += n;
    if (!hashing.push(std::move(item), here) || !parsing.push(std::move(bytes), here))
      return failure();
    return {};
  }

  [[nodiscard]] Slice compressed_left() const {
    return compressed.part(hashed, compressed.bytes.size() - hashed);
  }

  // The rest of the blob that was not hashed along with plain bytes.
  Status hash_compressed() {
    HashItem rest{{}, compressed_left()};
    compressed = {};
    hashed = 0;
    if (rest.compressed.empty() || hashing.push(std::move(rest), common.cores_taken())) return {};
    return failure();
  }

  Status end() {
    blob.probe_checksum = crc32c(probe);
    auto const head = std::string_view(reinterpret_cast<char const*>(probe.data()), probe.size())
                          .substr(0, kBlobHead);
    blob.head = head;
    std::vector<std::byte>().swap(probe);
    if (decoder) {
      LCFS_TRY(flush_chunk());
      if (auto ok = decoder->finish(); !ok) return fail(std::move(ok).error());
      LCFS_TRY(hash_compressed());
    }
    return {};
  }

  Result<ReceivedLayer> wait() {
    parsing.wait();
    hashing.wait();
    received();
    if (auto ok = failure(); !ok) return std::move(ok).error();
    if (auto ok = finish_parsing(); !ok) return std::move(ok).error();
    ReceivedLayer layer;
    layer.ingest = std::move(ingest);
    layer.diff_id = plain_hash.finish();
    layer.blob = std::move(blob);
    layer.blob.digest = decoder ? blob_hash.finish() : layer.diff_id;
    layer.plain_bytes = plain_bytes;
    return layer;
  }

  Status finish_parsing() {
    LCFS_TRY(reader.finish());
    return ingest->finish();
  }

  void received() {
    if (std::exchange(counted, false)) common.receiving.fetch_sub(1, std::memory_order_relaxed);
  }

  // ---- the stages

  bool hash(HashItem const& item) {
    oci::Sha256::update(plain_hash, item.plain.bytes, blob_hash, item.compressed.bytes);
    return true;
  }

  bool parse(Slice const& bytes) {
    auto done = reader.feed(bytes.bytes);
    if (!done) (void)fail(std::move(done).error());
    return done.ok();
  }

  // ---- the first error

  // Remembers `error` if it is the first, wakes all threads, and returns the first.
  Status fail(Error error) {
    {
      Lock const lock(mu);
      if (!first_error) first_error = std::move(error);
    }
    hashing.cancel();
    parsing.cancel();
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

  // Used by the pushing thread only.
  std::unique_ptr<Decoder> decoder{};  // null: the blob is plain
  std::shared_ptr<std::byte> chunk{};  // being filled
  std::span<std::byte> room{};         // rest of it
  Slice compressed{};                  // the last pushed bytes
  std::size_t hashed = 0;              // hashed bytes of `compressed`
  BlobInfo blob{};
  std::vector<std::byte> probe{};  // the blob's first bytes
  std::uint64_t plain_bytes = 0;
  bool counted = true;  // in common.receiving

  Mutex mu;
  std::optional<Error> first_error LCFS_GUARDED_BY(mu);

  oci::Sha256 blob_hash{}, plain_hash{};
  Stage<HashItem> hashing{kQueueDepth, [this](HashItem const& item) { return hash(item); }};
  Stage<Slice> parsing{kQueueDepth, [this](Slice const& bytes) { return parse(bytes); }};
};

LayerReceiver::LayerReceiver(Common& common, std::unique_ptr<Ingest> ingest)
    : impl_(std::make_unique<Impl>(common, std::move(ingest))) {}
LayerReceiver::~LayerReceiver() = default;
Status LayerReceiver::push(Slice bytes) { return impl_->push(std::move(bytes)); }
Status LayerReceiver::end() { return impl_->end(); }
Result<ReceivedLayer> LayerReceiver::wait() { return impl_->wait(); }

}  // namespace lcfs::importer
