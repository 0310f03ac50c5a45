// SPDX-License-Identifier: Apache-2.0
// Selects and opens the store of a command.
//
// All commands use open_store().  If the store is mounted, open_store() passes the whole command to
// the mount's server instead.  In that server, it returns the store that the server has open.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "engine/store.h"

namespace lcfs::cli {

// The help text of an argument that names a layer.
inline constexpr char kLayerHelp[] = "Layer, image, digest or unique prefix";

// Adds --store PATH, which is stored in `given`.
CLI::Option* add_store_option(CLI::App& command, std::string& given);

// Adds --at GENERATION, for commands that can read the store as of a restore point.
CLI::Option* add_at_option(CLI::App& command, std::uint64_t& at);

// The path of the store: `given` if it is not empty; else $LCFS_STORE if it is set; else
// /var/lib/lcfs/store.lcfs for root and $XDG_DATA_HOME/lcfs/store.lcfs for other users
// ($XDG_DATA_HOME is ~/.local/share unless it is set to an absolute path).
std::string store_path(Io const& io, std::string const& given);

// The store of a command: opened by it, or borrowed from the server that runs it.
class StoreUse {
 public:
  explicit StoreUse(std::unique_ptr<Store> owned)
      : owned_(std::move(owned)), store_(owned_.get()) {}
  explicit StoreUse(Store& borrowed) : store_(&borrowed) {}

  Store* operator->() const { return store_; }
  Store& operator*() const { return *store_; }
  [[nodiscard]] bool mounted() const { return owned_ == nullptr; }
  // Makes all changes durable.  Closes the store unless it is borrowed.
  Status close() { return mounted() ? store_->checkpoint() : store_->close(); }

 private:
  std::unique_ptr<Store> owned_;
  Store* store_;
};

// Opens the store for reading (shared with other readers) or for writing (exclusive).  `at`: the
// restore point to read; 0: the current state.  If a server ran the command, returns an error that
// fail() does not print, and context.forwarded is true: nothing is left to do.  Errors: kNotFound
// (no such store), kBusy (in use; or mounted, and `at` is given), and those of Store::open().
Result<StoreUse> open_store(Context& context, std::string const& given, Access access,
                            std::uint64_t at = 0);

// Whether a server runs this command and `path` is its store.
bool is_served(Context const& context, std::string const& path);

// Passes the whole command line to the server of the store at `path`.  False: no server listens.
// True: the server ran it, and context.exit is its exit code.
Result<bool> forward(Context& context, std::string const& path);
// The same with another command line; args[0] is the program.
Result<bool> forward(Context& context, std::string const& path, std::vector<std::string> args);

}  // namespace lcfs::cli
