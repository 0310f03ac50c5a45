// SPDX-License-Identifier: Apache-2.0
// Creates stores, without ever overwriting data by mistake.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/store.h"

namespace lcfs::cli {

struct MakeStore {
  std::string path{};      // a file, created if it does not exist, or a block device
  std::uint64_t size = 0;  // bytes; a file is created with or resized to it.  0: the present size
  std::string label{};
  std::optional<Uuid> uuid{};  // default: random
  bool force = false;          // overwrite a store, a known signature or data; never what is in use
  bool dry_run = false;        // make all checks, but write nothing
};

struct MadeStore {
  std::optional<Uuid> uuid{};  // unknown in a dry run, unless it was given
  std::uint64_t size = 0;      // bytes
  bool created = false;        // the file did not exist
};

// Creates a store.  Errors: kBusy (in use, mounted), kExists (contains something, no force),
// kInvalid (size), kIo and the like of the host.
Result<MadeStore> make_store(MakeStore const& wanted);

// A new store file that is removed again unless keep() is called.
class ProvisionalStore {
 public:
  // Creates the missing parent directories (0700) and a sparse store of `limit` bytes.  0: 64 GiB,
  // or the size of the host's file system if that is smaller.  kExists if `path` exists.
  static Result<ProvisionalStore> make(std::string const& path, std::uint64_t limit);
  ~ProvisionalStore();  // removes what it created, unless kept; then closes the store, so that
                        // nobody else can open it before
  ProvisionalStore(ProvisionalStore&&) noexcept = default;
  ProvisionalStore& operator=(ProvisionalStore&&) = delete;

  [[nodiscard]] Store& store() { return *store_; }
  [[nodiscard]] std::uint64_t limit() const { return limit_; }
  void keep();

 private:
  ProvisionalStore() = default;
  std::unique_ptr<Store> store_;
  std::uint64_t limit_ = 0;
  std::vector<std::string> made_;  // directories from the top down, then the file
};

}  // namespace lcfs::cli
