// SPDX-License-Identifier: Apache-2.0
#include "cli/checks.h"

#include <charconv>
#include <cstdint>
#include <system_error>

#include "cli/units.h"
#include "engine/store.h"
#include "oci/image_config.h"
#include "oci/image_name.h"
#include "oci/platform.h"

namespace lcfs::cli {
namespace {

// `parse` returns a Result or Status; the validator reports the message of its error.
template <class Parse>
CLI::Validator check_by(char const* name, Parse parse) {
  return {[parse](std::string const& text) {
            auto const parsed = parse(text);
            return parsed ? std::string{} : parsed.error().message;
          },
          "", name};
}

}  // namespace

CLI::Validator size_check() { return check_by("size", parse_size); }
CLI::Validator positive_check() {
  return {[](std::string const& text) -> std::string {
            std::uint64_t number = 0;
            auto const [end, error] =
                std::from_chars(text.data(), text.data() + text.size(), number);
            if (error == std::errc{} && end == text.data() + text.size() && number > 0) return {};
            return "\"" + text + "\" is not a whole number of 1 or more";
          },
          "", "positive number"};
}
CLI::Validator layer_name_check() { return check_by("layer name", Store::check_layer_name); }
CLI::Validator image_name_check() { return check_by("image name", oci::full_image_name); }
CLI::Validator platform_check() { return check_by("platform", oci::parse_platform); }
CLI::Validator config_change_check() { return check_by("config change", oci::parse_config_change); }

}  // namespace lcfs::cli
