// SPDX-License-Identifier: Apache-2.0
// Which store a command means, and opening it.
#pragma once

#include <memory>
#include <string>

#include "cli/commands.h"
#include "engine/store.h"

namespace lcfs::cli {

// --store PATH, kept in `given`.
CLI::Option* add_store_option(CLI::App& command, std::string& given);

// `given`; if that is empty $LCFS_STORE, else /var/lib/lcfs/store.lcfs for root, else $XDG_DATA_HOME/lcfs/store.lcfs
// ($XDG_DATA_HOME: ~/.local/share if it is not set to an absolute path).
std::string store_path(Io const& io, std::string const& given);

// Opens the store to read (with other readers) or to write (alone).
Result<std::unique_ptr<Store>> open_store(Io const& io, std::string const& given, Access access);

}  // namespace lcfs::cli
