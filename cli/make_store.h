// SPDX-License-Identifier: Apache-2.0
// Making a store where none is, with all the care that what stands there deserves.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/store.h"

namespace lcfs::cli {

struct MakeStore {
  std::string path{};      // a file, made if it is not there, or a block device
  std::uint64_t size = 0;  // bytes; 0: what is there.  A file is made or resized to it
  std::string label{};
  std::optional<Uuid> uuid{};  // random if not given
  bool force = false;  // overwrite another store, a known signature, or data; never what is in use
  bool dry_run = false;  // all checks, no effect
};

struct MadeStore {
  std::optional<Uuid> uuid{};  // not known in a dry run unless it was given
  std::uint64_t size = 0;
  bool created = false;  // the file was not there
};

// Errors: kBusy (in use, mounted), kExists (holds something, no force), kInvalid (size).
Result<MadeStore> make_store(MakeStore const& wanted);

// A store file that is only kept if what it was made for succeeds.
class ProvisionalStore {
 public:
  // Makes the missing directories above (0700) and a sparse store.  `limit` 0: 64 GiB, or the size
  // of the host's file system if that is less.  kExists if something stands at `path`.
  static Result<ProvisionalStore> make(std::string const& path, std::uint64_t limit);
  ~ProvisionalStore();  // removes what it made, unless kept; the store is closed after that, so
                        // nobody gets hold of it
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
