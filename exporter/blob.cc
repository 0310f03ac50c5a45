// SPDX-License-Identifier: Apache-2.0
#include "exporter/blob.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "importer/queue.h"
#include "importer/sha256.h"

namespace lcfs::exporter {
namespace {

constexpr std::size_t kQueueDepth = 4;  // pieces

using Queue = importer::BoundedQueue<Piece>;

// The producing side: cuts the tar into pieces.  Bodies are read when their piece is full, all at once.
class PieceWriter final : public TarSink {
 public:
  PieceWriter(BlobPlan const& plan, Queue& encode, Queue& hash) : plan_(plan), encode_(encode), hash_(hash) {}

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
    if (!piece_) piece_ = std::make_shared<std::vector<std::byte>>(kPieceBytes);
    auto const n = static_cast<std::size_t>(std::min<std::uint64_t>(wanted, kPieceBytes - used_));
    auto const room = std::span(*piece_).subspan(used_, n);
    used_ += n;
    return room;
  }

  Status hand_on_if_full() { return used_ == kPieceBytes ? hand_on() : Status{}; }

  Status hand_on() {
    if (plan_.stop != nullptr && plan_.stop->load()) return Error{Errc::kInterrupted, "interrupted"};
    if (!requests_.empty()) LCFS_TRY(plan_.read_bodies(requests_));
    requests_.clear();
    piece_->resize(used_);
    if (plan_.on_plain) plan_.on_plain(used_);
    used_ = 0;
    Piece const full = std::exchange(piece_, nullptr);
    // The other side gave up: it knows why.
    if (!hash_.push(full) || !encode_.push(full)) return Error{Errc::kInterrupted, "interrupted"};
    return {};
  }

  BlobPlan const& plan_;
  Queue& encode_;
  Queue& hash_;
  std::shared_ptr<std::vector<std::byte>> piece_{};
  std::size_t used_ = 0;
  std::vector<Layer::ReadRequest> requests_{};
};

// Hashes what passes.
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
  importer::Sha256 hash_{};
  std::uint64_t size_ = 0;
};

// The encoding side: how, then all pieces.
Status encode_all(BlobPlan const& plan, bool as_it_was, Queue& pieces, Encoding& how, ByteSink& out) {
  std::vector<Piece> first;
  how = plan.encoding;
  if (as_it_was) {
    bool whole = false;
    while (first.size() < kProbePieces && !whole) {
      if (auto piece = pieces.pop()) {
        first.push_back(*std::move(piece));
      } else {
        whole = true;
      }
    }
    LCFS_TRY_ASSIGN(auto const found, find_encoding(*plan.original, plan.plain_bytes, first, whole));
    if (found) how = *found;
  }
  LCFS_TRY_ASSIGN(auto const encoder, make_encoder(how, plan.threads, out));
  for (auto& piece : first) LCFS_TRY(encoder->feed(std::move(piece)));
  while (auto piece = pieces.pop()) LCFS_TRY(encoder->feed(*std::move(piece)));
  return encoder->finish();
}

}  // namespace

Result<MadeBlob> make_blob(BlobPlan const& plan, ByteSink& out) {
  bool const as_it_was = plan.original.has_value();
  Queue to_encode(kQueueDepth), to_hash(kQueueDepth);
  MadeBlob made;
  Status produced, encoded;
  importer::Sha256 plain_hash;
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
    while (auto const piece = to_hash.pop()) {
      plain_hash.update(**piece);
      made.plain_bytes += (*piece)->size();
    }
  });
  bool const plain = as_it_was ? plan.original->compression == BlobCompression::kNone : plan.encoding.kind == Encoding::kPlain;
  HashedSink hashed(out, !plain);
  Encoding how;
  encoded = encode_all(plan, as_it_was, to_encode, how, hashed);
  if (!encoded) {
    to_encode.cancel();
    to_hash.cancel();
  }
  producer.join();
  hasher.join();
  // What stopped the one stops the other: the cause is the one that is no interruption.
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
