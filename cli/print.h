// SPDX-License-Identifier: Apache-2.0
// Output for people: messages of one line, escaped names, tables.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cli/commands.h"
#include "engine/store.h"

namespace lcfs::cli {

// Bytes as one line of text that is safe for a terminal.  Printable ASCII and valid UTF-8 stay;
// control characters (newlines too), bytes that are not UTF-8, and backslashes become \xNN.
std::string escape(std::string_view bytes);
// The same, but backslashes stay: for messages in which names are escaped already.
std::string escape_controls(std::string_view bytes);

// Whether `bytes` is valid UTF-8, without surrogates and overlong forms (RFC 3629).
bool is_utf8(std::string_view bytes);

// Prints "lcfs WHAT: OBJECT: problem; next step" to standard error and returns kFailed.  `what` is
// the command.  If a server ran the command, prints nothing and returns the server's exit code.
int fail(Context const& context, std::string_view what, Error const& error);
// Prints a warning in the same form.
void warn(Context const& context, std::string_view what, std::string_view words);

// Calls `run` for each name.  If one fails, reports it, sets the exit code and continues with the
// next name.  An error without a path gets the name as its path.
void for_each_name(std::vector<std::string> const& names, Context& context, std::string_view what,
                   std::function<Status(std::string const& name)> const& run);

// Warns, before a new layer is based on the layer `id`, if that is writable and will become frozen.
Status warn_if_freezing(Store const& store, LayerId id, Context const& context,
                        std::string_view what);

// A table with columns as wide as their contents.
class Table {
 public:
  // `align`: 'l' or 'r' for each column.  `header` can be empty.
  Table(std::vector<std::string> header, std::string align);
  void add(std::vector<std::string> row);
  void print(std::ostream& out) const;

 private:
  std::string align_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace lcfs::cli
