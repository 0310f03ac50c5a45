// SPDX-License-Identifier: Apache-2.0
// Checks of arguments that do not depend on the store.  The parser applies them, so a wrong
// argument is a usage error that is reported before anything is opened.
#pragma once

#include <CLI/CLI.hpp>

namespace lcfs::cli {

CLI::Validator size_check();           // parse_size()
CLI::Validator positive_check();       // a whole number of 1 or more
CLI::Validator layer_name_check();     // name of a new layer: Store::check_layer_name()
CLI::Validator image_name_check();     // name of a new image: REPO[:TAG]
CLI::Validator platform_check();       // OS/ARCH[/VARIANT]
CLI::Validator config_change_check();  // KEY=VALUE for an image's config

}  // namespace lcfs::cli
