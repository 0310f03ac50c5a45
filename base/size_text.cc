// SPDX-License-Identifier: Apache-2.0
#include "base/size_text.h"

#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <limits>

namespace lcfs {
namespace {

constexpr std::string_view kPrefixes = "KMGTPE";

Error bad_size(std::string_view text) {
  return Error::invalid(fmt::format(
      "\"{}\" is not a size; give a number, optionally followed by K, M, G or T", text));
}

// The power of 1024 of a suffix, or -1.
int suffix_power(std::string_view suffix) {
  if (suffix.empty() || suffix == "B" || suffix == "b") return 0;
  auto const at =
      kPrefixes.find(static_cast<char>(std::toupper(static_cast<unsigned char>(suffix[0]))));
  if (at == std::string_view::npos) return -1;
  suffix.remove_prefix(1);
  if (!suffix.empty() && (suffix[0] == 'i' || suffix[0] == 'I')) {
    suffix.remove_prefix(1);
    if (suffix.empty()) return -1;
  }
  if (!suffix.empty() && suffix != "B" && suffix != "b") return -1;
  return static_cast<int>(at) + 1;
}

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
  std::uint64_t whole = 0;
  auto const* const end = text.data() + text.size();
  auto [at, error] = std::from_chars(text.data(), end, whole);
  if (error != std::errc{}) return bad_size(text);
  std::uint64_t numerator = 0, denominator = 1;  // of the part after the point
  if (at != end && *at == '.') {
    char const* digit = at + 1;
    for (; digit != end && *digit >= '0' && *digit <= '9' && denominator < 1'000'000; ++digit) {
      numerator = numerator * 10 + static_cast<std::uint64_t>(*digit - '0');
      denominator *= 10;
    }
    if (digit == at + 1) return bad_size(text);
    at = digit;
  }
  int const power = suffix_power({at, static_cast<std::size_t>(end - at)});
  if (power < 0 || (power == 0 && numerator != 0)) return bad_size(text);
  unsigned const shift = 10u * static_cast<unsigned>(power);
  if (whole > std::numeric_limits<std::uint64_t>::max() >> shift) return bad_size(text);
  auto const fraction = static_cast<std::uint64_t>(static_cast<unsigned __int128>(numerator) *
                                                   (std::uint64_t{1} << shift) / denominator);
  std::uint64_t const bytes = whole << shift;
  if (bytes > std::numeric_limits<std::uint64_t>::max() - fraction) return bad_size(text);
  return bytes + fraction;
}

std::string size_text(std::uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  auto value = static_cast<double>(bytes);
  std::size_t power = 0;
  while (value >= 1023.5 && power < kPrefixes.size()) {
    value /= 1024;
    ++power;
  }
  return fmt::format("{:.{}f} {}iB", value, value < 99.95 ? 1 : 0, kPrefixes[power - 1]);
}

}  // namespace lcfs
