// SPDX-License-Identifier: Apache-2.0
// `lcfs mount`: serves the layers of a store through FUSE.
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

// What the runner of a forwarded command gets of the server.  All of it outlives the command.
struct Serving {
  Store& store;
  std::string store_path{};  // absolute
  // Statistics of the whole mount, or of one layer; `clear` sets the counters to zero after that.
  std::function<Result<std::string>(StatsFormat, std::optional<LayerId>, bool clear)> stats{};
};

struct ServeHooks {
  // Runs a client's command line; called from the control server's threads, several at a time.
  // Returns its exit code.
  std::function<int(ControlRequest& request, Serving const& serving)> run_command{};
};

// Opens the store, mounts, serves.  In the background (options.foreground false) the caller's
// process returns 0 as soon as requests are served; with options.foreground it returns when the
// mount has ended and everything is durable. Errors come before anything is mounted; the process
// that calls has one thread.
Result<int> serve(MountOptions const& options, ServeHooks const& hooks);

}  // namespace lcfs::mount
