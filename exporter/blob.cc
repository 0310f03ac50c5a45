// SPDX-License-Identifier: Apache-2.0
#include "exporter/blob.h"

#include <algorithm>
#include <cstring>
#include <future>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "base/bounded_queue.h"
#include "base/sync.h"
#include "oci/sha256.h"

namespace lcfs::exporter {
namespace {

constexpr std::size_t kQueueDepth = 6;  // pieces
// So that the device has the next reads while the last ones are checked.
constexpr unsigned kReaders = 3;

// A piece whose bodies may still be being read.
struct Promised {
  Piece piece{};
  std::shared_future<Status> read{};
};

using Queue = BoundedQueue<Promised>;

// The next piece, with its bodies; nothing at the end.
Result<Piece> next_piece(Queue& pieces) {
  auto promised = pieces.pop();
  if (!promised) return Piece{};
  LCFS_TRY(promised->read.get());
  return std::move(promised->piece);
}

// Reads the bodies of pieces, several at once.
class BodyReaders {
 public:
  explicit BodyReaders(BlobPlan const& plan) : plan_(plan), work_(kReaders) {
    for (unsigned i = 0; plan.concurrent_reads && i < kReaders; ++i) {
      threads_.emplace_back([this] {
        while (auto job = work_.pop()) (*job)();
      });
    }
  }
  ~BodyReaders() {
    work_.close();
    for (auto& thread : threads_) thread.join();
  }
  BodyReaders(BodyReaders const&) = delete;
  BodyReaders& operator=(BodyReaders const&) = delete;

  // The waiting thread owns `piece`, so it lives until the work is done.
  std::shared_future<Status> read(std::vector<Layer::ReadRequest> requests, Piece piece) {
    Job job([this, requests = std::move(requests), piece = std::move(piece)] {
      return requests.empty() ? Status{} : plan_.read_bodies(requests);
    });
    auto done = job.get_future().share();
    if (threads_.empty()) {
      job();
    } else {
      work_.push(std::move(job));
    }
    return done;
  }

 private:
  using Job = std::packaged_task<Status()>;
  BlobPlan const& plan_;
  BoundedQueue<Job> work_;
  std::vector<std::thread> threads_{};
};

// Memory of pieces is reused: fresh pages would cost more than the checksum of a piece.
class PiecePool {
 public:
  std::shared_ptr<std::vector<std::byte>> take() {
    std::unique_ptr<std::vector<std::byte>> piece;
    {
      Lock const lock(free_->mu);
      if (!free_->pieces.empty()) {
        piece = std::move(free_->pieces.back());
        free_->pieces.pop_back();
      }
    }
    if (!piece) piece = std::make_unique<std::vector<std::byte>>();
    piece->resize(kPieceBytes);
    return {piece.release(), [pool = free_](std::vector<std::byte>* done) {
              Lock const lock(pool->mu);
              pool->pieces.emplace_back(done);
            }};
  }

 private:
  struct Free {
    Mutex mu;
    std::vector<std::unique_ptr<std::vector<std::byte>>> pieces LCFS_GUARDED_BY(mu);
  };
  std::shared_ptr<Free> free_ = std::make_shared<Free>();  // pieces may outlive us
};

// The producing side: cuts the tar into pieces.  Bodies are read when their piece is full, all at
// once.
class PieceWriter final : public TarSink {
 public:
  PieceWriter(BlobPlan const& plan, Queue& encode, Queue& hash)
      : plan_(plan), encode_(encode), hash_(hash), readers_(plan) {}

  Status bytes(std::span<std::byte const> bytes) override {
    while (!bytes.empty()) {
      auto const room = reserve(bytes.size());
      std::memcpy(room.data(), bytes.data(), room.size());
      bytes = bytes.subspan(room.size());
      LCFS_TRY(hand_on_if_full());
    }
    return {};
  }

  Status body(Inode inode, std::uint64_t offset, std::uint64_t length) override {
    while (length != 0) {
      auto const room = reserve(length);
      requests_.push_back({inode, offset, room});
      offset += room.size();
      length -= room.size();
      LCFS_TRY(hand_on_if_full());
    }
    return {};
  }

  Status finish() {
    if (used_ != 0) LCFS_TRY(hand_on());
    return {};
  }

 private:
  std::span<std::byte> reserve(std::uint64_t wanted) {
    if (!piece_) piece_ = pool_.take();
    auto const n = static_cast<std::size_t>(std::min<std::uint64_t>(wanted, kPieceBytes - used_));
    auto const room = std::span(*piece_).subspan(used_, n);
    used_ += n;
    return room;
  }

  Status hand_on_if_full() { return used_ == kPieceBytes ? hand_on() : Status{}; }

  Status hand_on() {
    if (plan_.stop != nullptr && plan_.stop->load()) return Error::interrupted();
    piece_->resize(used_);  // the last one; nothing moves
    Promised full{std::exchange(piece_, nullptr), {}};
    full.read = readers_.read(std::exchange(requests_, {}), full.piece);
    if (plan_.on_plain) plan_.on_plain(used_);
    used_ = 0;
    // The other side has failed, and reports why.
    if (!hash_.push(full) || !encode_.push(full)) return Error::interrupted();
    return {};
  }

  BlobPlan const& plan_;
  Queue& encode_;
  Queue& hash_;
  PiecePool pool_{};
  std::shared_ptr<std::vector<std::byte>> piece_{};
  std::size_t used_ = 0;
  std::vector<Layer::ReadRequest> requests_{};
  BodyReaders readers_;  // ends first: they write into pieces
};

// Hashes the bytes that pass through.
class HashedSink final : public ByteSink {
 public:
  explicit HashedSink(ByteSink& out, bool hash) : out_(out), hashing_(hash) {}
  Status write(std::span<std::byte const> bytes) override {
    if (hashing_) hash_.update(bytes);
    size_ += bytes.size();
    return out_.write(bytes);
  }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] Digest digest() { return hash_.finish(); }

 private:
  ByteSink& out_;
  bool const hashing_;
  oci::Sha256 hash_{};
  std::uint64_t size_ = 0;
};

// The encoding side: how, then all pieces.
Status encode_all(BlobPlan const& plan, bool as_it_was, Queue& pieces, Encoding& how,
                  ByteSink& out) {
  std::vector<Piece> first;
  how = plan.encoding;
  if (as_it_was) {
    bool whole = false;
    while (first.size() < kProbePieces && !whole) {
      LCFS_TRY_ASSIGN(auto piece, next_piece(pieces));
      whole = !piece;
      if (piece) first.push_back(std::move(piece));
    }
    LCFS_TRY_ASSIGN(auto const found,
                    find_encoding(*plan.original, plan.plain_bytes, first, whole));
    if (found) how = *found;
  }
  LCFS_TRY_ASSIGN(auto const encoder, make_encoder(how, plan.threads, out));
  for (auto& piece : first) LCFS_TRY(encoder->feed(std::move(piece)));
  for (;;) {
    LCFS_TRY_ASSIGN(auto piece, next_piece(pieces));
    if (!piece) return encoder->finish();
    LCFS_TRY(encoder->feed(std::move(piece)));
  }
}

}  // namespace

Result<MadeBlob> make_blob(BlobPlan const& plan, ByteSink& out) {
  bool const as_it_was = plan.original.has_value();
  Queue to_encode(kQueueDepth), to_hash(kQueueDepth);
  MadeBlob made;
  Status produced, encoded;
  oci::Sha256 plain_hash;
  std::thread producer([&] {
    PieceWriter writer(plan, to_encode, to_hash);
    produced = plan.write_tar(writer);
    if (produced) produced = writer.finish();
    if (produced) {
      to_encode.close();
      to_hash.close();
    } else {
      to_encode.cancel();
      to_hash.cancel();
    }
  });
  std::thread hasher([&] {
    for (;;) {
      auto const piece = next_piece(to_hash);
      if (!piece || !*piece) return;  // the encoder reports the read error
      plain_hash.update(**piece);
      made.plain_bytes += (*piece)->size();
    }
  });
  bool const plain = as_it_was ? plan.original->compression == BlobCompression::kNone
                               : plan.encoding.kind == Encoding::kPlain;
  HashedSink hashed(out, !plain);
  Encoding how;
  encoded = encode_all(plan, as_it_was, to_encode, how, hashed);
  if (!encoded) {
    to_encode.cancel();
    to_hash.cancel();
  }
  producer.join();
  hasher.join();
  // An error of one stops the other: the cause is the error that is not kInterrupted.
  if (!encoded && encoded.error().code != Errc::kInterrupted) return std::move(encoded).error();
  if (!produced) return std::move(produced).error();
  if (!encoded) return std::move(encoded).error();
  made.diff_id = plain_hash.finish();
  made.digest = plain ? made.diff_id : hashed.digest();
  made.size = hashed.size();
  made.compression = how.compression();
  return made;
}

}  // namespace lcfs::exporter
