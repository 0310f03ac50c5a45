// SPDX-License-Identifier: Apache-2.0
// Commands that a server runs for its clients.
#pragma once

#include "cli/commands.h"
#include "mount/control.h"
#include "mount/server.h"

namespace lcfs::cli {

// Runs the client's command line with its descriptors and environment, and returns the exit code.
// `identity` is that of the store that `serving` has open.  Threads: any, any number at a time.
int run_for_client(mount::ControlRequest& request, mount::Serving const& serving,
                   mount::StoreIdentity const& identity);

}  // namespace lcfs::cli
