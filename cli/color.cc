// SPDX-License-Identifier: Apache-2.0
#include "cli/color.h"

#include <fmt/format.h>
#include <unistd.h>

namespace lcfs::cli {

CLI::Option* add_color_option(CLI::App& command, std::string& when) {
  return command
      .add_option("--color", when,
                  "Colour: auto (on a terminal, unless NO_COLOR is set), always, never")
      ->type_name("WHEN")
      ->check(CLI::IsMember({"auto", "always", "never"}));
}

Paint::Paint(Io const& io, std::string const& when) : on_(when == "always") {
  if (when == "always" || when == "never" || io.out_fd < 0 || isatty(io.out_fd) != 1) return;
  auto const variable = [&io](char const* name) { return io.env ? io.env(name).value_or("") : ""; };
  on_ = variable("NO_COLOR").empty() && variable("TERM") != "dumb";
}

std::string Paint::sgr(char const* code, std::string_view text) const {
  return on_ ? fmt::format("\x1b[{}m{}\x1b[0m", code, text) : std::string(text);
}

}  // namespace lcfs::cli
