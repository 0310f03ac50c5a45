// SPDX-License-Identifier: Apache-2.0
// Imports layers and images into a store, all or nothing.
//
//   ImportTransaction tx(store);
//   auto a = tx.begin_layer();                // one for each blob, each with a thread of its own
//   a->append(...) ... a->delta().add_file(...)
//   a->finish();
//   auto id = tx.stack(*a, parent, meta);     // metadata only
//   tx.add_image(...);
//   tx.commit();                              // now visible, and flushed
//
// Nothing is visible before commit().  If the transaction is destroyed without it, or the process
// dies, the store is exactly as it was (I4, same df).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/delta.h"
#include "engine/store.h"
#include "engine/types.h"

namespace lcfs {

class IngestImpl;

// Receives files as an Ingest placed them, one after the other: begin_file(), then data() and
// hole() in the order of the file, then end_file().
class PlacedFileReader {
 public:
  virtual ~PlacedFileReader() = default;
  virtual bool begin_file(std::string_view path) = 0;         // false: not this one
  virtual Status data(std::span<std::byte const> bytes) = 0;  // whole blocks
  virtual Status hole(std::uint64_t length) = 0;
  virtual Status end_file() = 0;
};

// One layer blob that is being received.  File data is placed in the store as it arrives: aligned
// to blocks, without zero blocks, with checksums, files one behind the other in large writes.
// Entries are collected in delta().  Destroying it frees all the space it took, unless it was
// stacked. Threads: one at a time.
class Ingest {
 public:
  explicit Ingest(std::unique_ptr<IngestImpl> impl);
  ~Ingest();
  Ingest(Ingest const&) = delete;
  Ingest& operator=(Ingest const&) = delete;

  [[nodiscard]] Delta& delta();

  // One file's data: begin_content(), any number of append/append_hole, end_content().
  // size: of the file, 0 if it is not known.  It only helps placement.
  void begin_content(std::uint64_t size);
  Status append(std::span<std::byte const> data);  // kNoSpace when the store is full
  Status append_hole(std::uint64_t length);
  Result<Content> end_content();

  // Keeps the layer's tar, without what the tree has (skeleton.h).  Call keep_tar() first; then
  // pass all bytes of the tar, in order: by tar_literal(), or by tar_body() those that are bytes
  // [offset, offset + length) of the last file that delta().add_file() added.  Parts of one file
  // ascend.
  void keep_tar();
  Status tar_literal(std::span<std::byte const> bytes);
  Status tar_body(std::uint64_t offset, std::uint64_t length);

  // Waits until everything appended has been written.  The first error of any write is returned
  // here or earlier.
  Status finish();

  // Reads back, after finish(), the data of every file that took blocks.  Files whose data is small
  // enough for the tree are left out.  Errors: the reader's, kIo, kCorrupt.
  Status read_placed(PlacedFileReader& reader);

  [[nodiscard]] IngestImpl& impl() { return *impl_; }  // engine/import/ingest.h: for the engine

 private:
  std::unique_ptr<IngestImpl> impl_;
};

struct LayerMeta {
  Digest diff_id{};
  Digest chain_id{};
  std::uint64_t diff_bytes = 0;  // size of the plain tar
  std::string name{};            // if not empty, the name of the layer, which has no digests then
  BlobInfo blob{};               // the blob that was imported
};

struct NewImage {
  Digest config_digest{}, manifest_digest{};
  std::string config{}, manifest{}, index{};  // raw bytes; index may be empty
  // May be empty; a name that another image has moves to this one.
  std::vector<std::string> names{};
  LayerId top_layer = 0;  // 0: no layers
  std::uint32_t layer_count = 0;
};

// For Store::commit_layer().
struct CommittedImage {
  NewImage image{};
  std::vector<LayerDigests> digests{};  // of those layers of its chain that have none
};

class ImportTransaction {
 public:
  // what: the operation's name in the store's history; the names of what it makes are added.
  explicit ImportTransaction(Store& store, std::string what = "import");
  ~ImportTransaction();
  ImportTransaction(ImportTransaction const&) = delete;
  ImportTransaction& operator=(ImportTransaction const&) = delete;

  // Thread safe.
  Result<std::unique_ptr<Ingest>> begin_layer();

  // Makes a frozen layer of a finished Ingest on `parent` (0: a base), which is in the store or was
  // stacked by this transaction.  The new layer is named by its chain id's first 12 hex digits
  // (more if taken), unless `meta` has a name.  Errors: kExists (that name; commit() returns it if
  // it was taken meanwhile), kInvalid with .path = the entry's path (hard link to nothing, ...).
  // Must not be called from two threads at once.
  Result<LayerId> stack(Ingest& ingest, LayerId parent, LayerMeta const& meta);

  // If the store has an image with the same config digest, that gets the additional names and keeps
  // its documents.
  Status add_image(NewImage image);

  // Atomic and durable.  The transaction is over, whatever the result.
  Status commit();

  // The name of a layer stacked by this transaction.
  [[nodiscard]] std::string layer_name(LayerId id) const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace lcfs
