// SPDX-License-Identifier: Apache-2.0
// Colours for terminal output.
// Specification: ECMA-48 SGR; no-color.org.
#pragma once

#include <string>
#include <string_view>

#include "cli/commands.h"

namespace lcfs::cli {

// --color WHEN: auto (on a terminal that is not dumb, unless NO_COLOR is set), always or never.
CLI::Option* add_color_option(CLI::App& command, std::string& when);

class Paint {
 public:
  Paint(Io const& io, std::string const& when);
  [[nodiscard]] std::string bold(std::string_view text) const { return sgr("1", text); }
  [[nodiscard]] std::string dim(std::string_view text) const { return sgr("2", text); }
  [[nodiscard]] std::string green(std::string_view text) const { return sgr("32", text); }
  [[nodiscard]] std::string cyan(std::string_view text) const { return sgr("36", text); }

 private:
  [[nodiscard]] std::string sgr(char const* code, std::string_view text) const;
  bool on_;
};

}  // namespace lcfs::cli
