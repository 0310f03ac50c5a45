// SPDX-License-Identifier: Apache-2.0
// Which store a command means, and opening it.
//
// One door for all commands.  A store that a server has mounted is not ours to open: open_store()
// has the server run the whole command instead.  In the server it gives what the server has open.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "engine/store.h"

namespace lcfs::cli {

// --store PATH, kept in `given`.
CLI::Option* add_store_option(CLI::App& command, std::string& given);

// --at GENERATION, for commands that can show the store as it was at a kept checkpoint.
CLI::Option* add_at_option(CLI::App& command, std::uint64_t& at);

// `given`; if that is empty $LCFS_STORE, else /var/lib/lcfs/store.lcfs for root, else
// $XDG_DATA_HOME/lcfs/store.lcfs
// ($XDG_DATA_HOME: ~/.local/share if it is not set to an absolute path).
std::string store_path(Io const& io, std::string const& given);

// The store of a command: its own, or a server's.
class StoreUse {
 public:
  explicit StoreUse(std::unique_ptr<Store> owned)
      : owned_(std::move(owned)), store_(owned_.get()) {}
  explicit StoreUse(Store& borrowed) : store_(&borrowed) {}

  Store* operator->() const { return store_; }
  Store& operator*() const { return *store_; }
  [[nodiscard]] bool mounted() const { return owned_ == nullptr; }
  // Everything done is durable when it returns.  One of our own is closed by it.
  Status close() { return mounted() ? store_->checkpoint() : store_->close(); }

 private:
  std::unique_ptr<Store> owned_;
  Store* store_;
};

// Opens the store to read (with other readers) or to write (alone).  If a server has it and ran the
// command for us, it answers an error that fail() keeps quiet about, and context.forwarded is true:
// nothing is left to do. at: a kept checkpoint, to be read; 0: the store as it is.  Refused if a
// server has the store.
Result<StoreUse> open_store(Context& context, std::string const& given, Access access,
                            std::uint64_t at = 0);

// Whether we are in a server and `path` is its store.
bool is_served(Context const& context, std::string const& path);

// Has the server of the store at `path` run our whole command line.  False: no server listens.
// True: context.exit is its answer.
Result<bool> forward(Context& context, std::string const& path);
// The same for another command line, args[0] the program.
Result<bool> forward(Context& context, std::string const& path, std::vector<std::string> args);

}  // namespace lcfs::cli
