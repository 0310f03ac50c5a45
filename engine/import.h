// SPDX-License-Identifier: Apache-2.0
// Bringing layers and images into a store, all or nothing.
//
//   ImportTransaction tx(store);
//   auto a = tx.begin_layer();      // per blob; each Ingest belongs to one thread, several at once
//   are fine a->append(...) ... a->delta().add_file(...) a->finish(); auto id = tx.stack(*a,
//   parent, meta);   // metadata only tx.add_image(...); tx.commit();                    // now
//   visible, and durable
//
// Nothing is visible before commit(); a transaction that is destroyed without it, or a process that
// dies, leaves the store exactly as it was (I4, same df).
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

// One layer blob being received: file data is placed in the store as it comes (aligned to blocks,
// zero blocks dropped, checksummed, files one behind the other in large writes), entries are
// collected in delta(). One thread at a time.  Destroying it gives back all the space it took,
// unless it was stacked.
class Ingest {
 public:
  virtual ~Ingest() = default;

  [[nodiscard]] virtual Delta& delta() = 0;

  // One file's data: begin_content(), any number of append/append_hole, end_content().
  // `size` is the file's size if known (0: not known): it only helps placement.
  virtual void begin_content(std::uint64_t size) = 0;
  virtual Status append(std::span<std::byte const> data) = 0;  // kNoSpace when the store is full
  virtual Status append_hole(std::uint64_t length) = 0;
  virtual Result<Content> end_content() = 0;

  // The layer's tar, to be kept without what the tree has (engine/skeleton.h).  keep_tar() first;
  // then, in the order of the tar, all its bytes: tar_literal(), or tar_body() for those that are
  // bytes [offset, offset + length) of the file that delta().add_file() was told last.  Parts of
  // one file ascend.
  virtual void keep_tar() = 0;
  virtual Status tar_literal(std::span<std::byte const> bytes) = 0;
  virtual Status tar_body(std::uint64_t offset, std::uint64_t length) = 0;

  // Waits until everything appended has been written; the first error of any write is told here or
  // earlier.
  virtual Status finish() = 0;
};

struct LayerMeta {
  Digest diff_id{};
  Digest chain_id{};
  std::uint64_t diff_bytes = 0;  // size of the plain tar
  std::string name{};            // not empty: the layer is called so and has no digests
  BlobInfo blob{};               // what it came in
};

struct NewImage {
  Digest config_digest{}, manifest_digest{};
  std::string config{}, manifest{}, index{};  // raw bytes; index may be empty
  std::vector<std::string>
      names{};            // may be empty; a name that another image has moves to this one
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
  // what: the operation's name in the store's history; what it makes is added.
  explicit ImportTransaction(Store& store, std::string what = "import");
  ~ImportTransaction();
  ImportTransaction(ImportTransaction const&) = delete;
  ImportTransaction& operator=(ImportTransaction const&) = delete;

  // Thread safe.
  Result<std::unique_ptr<Ingest>> begin_layer();

  // Makes a frozen layer of a finished Ingest on `parent` (0: a base), which is in the store or was
  // stacked by this transaction.  The new layer is named by its chain id's first 12 hex digits
  // (more if taken), unless `meta` has a name.  Errors: kExists (that name; also told by commit(),
  // if it was taken meanwhile), kInvalid with .path = the entry's path (hard link to nothing, ...).
  // Not to be called from two threads at once.
  Result<LayerId> stack(Ingest& ingest, LayerId parent, LayerMeta const& meta);

  // An image with the same config digest that is already there gets the additional names, and keeps
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
