// SPDX-License-Identifier: Apache-2.0
// Compares two texts line by line: which lines were removed and which were added.
// Source: Myers, "An O(ND) Difference Algorithm and Its Variations" (1986), in linear space.  For
// very different texts the result is correct but can be longer than the shortest one: beyond
// kMaxCost edits the search continues from the farthest point reached.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string_view>
#include <vector>

namespace lcfs::cli {

// Lines [a, a + a_count) of the first text were replaced by [b, b + b_count) of the second.  At
// least one of the counts is not 0.
struct LineChange {
  std::size_t a = 0, a_count = 0, b = 0, b_count = 0;
};

// The lines with their newlines; the last one can lack it.  They point into `text`.
std::vector<std::string_view> split_lines(std::string_view text);

// The changes in order.  At least one common line separates two changes.
std::vector<LineChange> changed_lines(std::vector<std::string_view> const& a,
                                      std::vector<std::string_view> const& b);

// Prints the hunks of a unified diff with three lines of context.  Prints nothing if the texts are
// equal.
void print_hunks(std::string_view a, std::string_view b, std::ostream& out);

}  // namespace lcfs::cli
