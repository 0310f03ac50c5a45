// SPDX-License-Identifier: Apache-2.0
// Two texts line by line: which lines went and which came.
// Myers, "An O(ND) Difference Algorithm and Its Variations" (1986), in linear space.  Of texts that
// are very unlike the answer is right but may not be the shortest: beyond kMaxCost edits the search
// goes on from the farthest point it has reached.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string_view>
#include <vector>

namespace lcfs::cli {

// Lines [a, a + a_count) of the first text became [b, b + b_count) of the second; one of the counts
// is not 0.
struct LineChange {
  std::size_t a = 0, a_count = 0, b = 0, b_count = 0;
};

// With their newline; the last may have none.
std::vector<std::string_view> split_lines(std::string_view text);

// In order; between two of them lies at least one line that both have.
std::vector<LineChange> changed_lines(std::vector<std::string_view> const& a,
                                      std::vector<std::string_view> const& b);

// The hunks of a unified diff, with three lines around each change.  Nothing if the texts are
// equal.
void print_hunks(std::string_view a, std::string_view b, std::ostream& out);

}  // namespace lcfs::cli
