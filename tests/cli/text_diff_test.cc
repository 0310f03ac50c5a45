// SPDX-License-Identifier: Apache-2.0
// Differences of texts: what is told makes one of the other, and is as little as can be; hunks in
// the words of POSIX diff -u.
#include "cli/text_diff.h"

#include <doctest/doctest.h>

#include <random>
#include <sstream>
#include <string>

using namespace lcfs::cli;

namespace {

std::string hunks(std::string const& a, std::string const& b) {
  std::ostringstream out;
  print_hunks(a, b, out);
  return out.str();
}

// `a` with the changes made.
std::vector<std::string_view> changed(std::vector<std::string_view> const& a,
                                      std::vector<std::string_view> const& b,
                                      std::vector<LineChange> const& changes) {
  std::vector<std::string_view> out;
  std::size_t i = 0;
  for (auto const& c : changes) {
    REQUIRE(c.a >= i);
    REQUIRE(c.a_count + c.b_count != 0);
    for (; i < c.a; ++i) out.push_back(a[i]);
    REQUIRE(out.size() == c.b);
    for (std::size_t k = 0; k < c.b_count; ++k) out.push_back(b.at(c.b + k));
    i += c.a_count;
  }
  for (; i < a.size(); ++i) out.push_back(a[i]);
  return out;
}

std::size_t edits(std::vector<LineChange> const& changes) {
  std::size_t n = 0;
  for (auto const& c : changes) n += c.a_count + c.b_count;
  return n;
}

std::size_t fewest_edits(std::vector<std::string_view> const& a,
                         std::vector<std::string_view> const& b) {
  std::vector<std::vector<std::size_t>> common(a.size() + 1,
                                               std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t k = 1; k <= b.size(); ++k)
      common[i][k] = a[i - 1] == b[k - 1] ? common[i - 1][k - 1] + 1
                                          : std::max(common[i - 1][k], common[i][k - 1]);
  }
  return a.size() + b.size() - 2 * common[a.size()][b.size()];
}

std::string some_text(std::mt19937_64& rng, std::size_t most, std::uint64_t words) {
  std::string text;
  for (std::size_t n = rng() % (most + 1); n-- > 0;) text += std::to_string(rng() % words) + "\n";
  if (rng() % 4 == 0) text += "end";
  return text;
}

}  // namespace

TEST_CASE("text diff: random texts become each other by the fewest edits") {
  std::mt19937_64 rng(7);
  for (int round = 0; round < 3000; ++round) {
    CAPTURE(round);
    auto const words = 1 + rng() % 8;
    auto const text_a = some_text(rng, 24, words), text_b = some_text(rng, 24, words);
    auto const a = split_lines(text_a), b = split_lines(text_b);
    auto const changes = changed_lines(a, b);
    REQUIRE(changed(a, b, changes) == b);
    REQUIRE(edits(changes) == fewest_edits(a, b));
    CHECK(hunks(text_a, text_b).empty() == (text_a == text_b));
  }
}

TEST_CASE(
    "text diff: large texts that have little in common are told apart, right though not shortest") {
  std::mt19937_64 rng(8);
  std::string text_a, text_b;
  for (int i = 0; i < 20000; ++i) text_a += std::to_string(rng() % 5000) + "\n";
  for (int i = 0; i < 15000; ++i) text_b += std::to_string(rng() % 5000) + "\n";
  auto const a = split_lines(text_a), b = split_lines(text_b);
  CHECK(changed(a, b, changed_lines(a, b)) == b);
  CHECK(changed(b, a, changed_lines(b, a)) == a);
}

TEST_CASE("text diff: hunks are those of diff -u") {
  CHECK(hunks("", "") == "");
  CHECK(hunks("a\n", "a\n") == "");
  CHECK(hunks("", "a\n") == "@@ -0,0 +1 @@\n+a\n");
  CHECK(hunks("a\n", "") == "@@ -1 +0,0 @@\n-a\n");
  CHECK(hunks("a", "a\n") == "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n");
  CHECK(hunks("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nx\n6\n7\n8\n9\n") ==
        "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+x\n 6\n 7\n 8\n");
  // Six lines between two changes are one hunk, seven are two.
  auto const far = [](int between) {
    std::string a = "a\n", b = "b\n";
    for (int i = 0; i < between; ++i) a += std::to_string(i) + "\n", b += std::to_string(i) + "\n";
    auto const text = hunks(a + "c\n", b + "d\n");
    std::size_t count = 0;
    for (std::size_t at = 0; (at = text.find("@@ -", at)) != std::string::npos; ++at) ++count;
    return count;
  };
  CHECK(far(6) == 1);
  CHECK(far(7) == 2);
}
