// SPDX-License-Identifier: Apache-2.0
// What an argument must look like, whatever is in the store: anything else is wrong usage, told
// before anything is opened.
#pragma once

#include <CLI/CLI.hpp>

namespace lcfs::cli {

CLI::Validator size_check();           // parse_size()
CLI::Validator positive_check();       // a whole number, 1 or more
CLI::Validator layer_name_check();     // of a layer to be: Store::check_layer_name()
CLI::Validator image_name_check();     // of an image to be: REPO[:TAG]
CLI::Validator platform_check();       // OS/ARCH[/VARIANT]
CLI::Validator config_change_check();  // KEY=VALUE of an image's config

}  // namespace lcfs::cli
