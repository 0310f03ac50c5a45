// SPDX-License-Identifier: Apache-2.0
// A command that a server runs for a client.
#pragma once

#include "cli/commands.h"
#include "mount/control.h"
#include "mount/server.h"

namespace lcfs::cli {

// Runs the client's command line with its descriptors and environment; `identity` is that of the
// store that `serving` has open.  Any thread, any number at once.
int run_for_client(mount::ControlRequest& request, mount::Serving const& serving,
                   mount::StoreIdentity const& identity);

}  // namespace lcfs::cli
