// SPDX-License-Identifier: Apache-2.0
// The server of `lcfs mount`, which serves the layers of a store through FUSE.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>

#include "engine/store.h"
#include "mount/control.h"
#include "mount/options.h"

namespace lcfs::mount {

enum class StatsFormat : std::uint8_t { kText, kJson, kPrometheus };

// What a forwarded command uses of the server.  All of it outlives the command.
struct Serving {
  Store& store;
  std::string store_path{};  // absolute
  // Statistics of the whole mount, or of one layer.  `clear`: then resets the counters.
  std::function<Result<std::string>(StatsFormat, std::optional<LayerId>, bool clear)> stats{};
};

struct ServeHooks {
  // Runs a client's command line and returns its exit code.  Called from the control server's
  // threads, several at a time.
  std::function<int(ControlRequest& request, Serving const& serving)> run_command{};
};

// Opens the store, mounts it and serves it.  Without options.foreground a child process serves, and
// the call returns 0 as soon as requests are served.  With options.foreground the call returns when
// the store has been unmounted and everything is durable.  An error means that nothing is mounted,
// or, with options.foreground, that the changes could not be made durable.  The calling process
// must have only one thread.
Result<int> serve(MountOptions const& options, ServeHooks const& hooks);

}  // namespace lcfs::mount
