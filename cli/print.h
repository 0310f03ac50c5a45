// SPDX-License-Identifier: Apache-2.0
// Words for people: errors in one line, bytes that a terminal can bear, tables.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cli/commands.h"
#include "engine/store.h"
#include "format/result.h"

namespace lcfs::cli {

// Bytes as text: printable ASCII and valid UTF-8 stay; control characters, bytes that are no UTF-8,
// and backslashes become \xNN (\n and \t too: one thing, one line).
std::string escape(std::string_view bytes);
// The same, but backslashes stay: for messages in which names were escaped already.
std::string escape_controls(std::string_view bytes);

// Is it UTF-8, without surrogates and overlong forms?
bool is_utf8(std::string_view bytes);

// "lcfs: WHAT: WHERE: WHY; what to do" to standard error, and kFailed.
// Of a command that a server has run, only what that returned.
int fail(Context const& context, std::string_view what, Error const& error);
// A warning in the same form, without the advice.
void warn(Context const& context, std::string_view what, std::string_view words);

// Says that making something on the layer freezes it, if it is open.
Status tell_freezing(Store const& store, LayerId id, Context const& context, std::string_view what);

// Columns, as wide as they must be.
class Table {
 public:
  // `align`: a letter for each column, 'l' or 'r'.  The header may be empty.
  Table(std::vector<std::string> header, std::string align);
  void add(std::vector<std::string> row);
  void print(std::ostream& out) const;

 private:
  std::string align_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace lcfs::cli
