// SPDX-License-Identifier: Apache-2.0
#include "oci/quote.h"

#include <fmt/format.h>

#include <cstddef>
#include <iterator>

namespace lcfs::oci {
namespace {

constexpr std::size_t kMaxShown = 300;

// Length of the UTF-8 sequence at the start of `s`, 0 if it is none (or overlong, a surrogate, too
// big).
std::size_t utf8_length(std::string_view s) {
  auto at = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  unsigned const first = at(0);
  std::size_t const n = first < 0x80   ? 1
                        : first < 0xc2 ? 0
                        : first < 0xe0 ? 2
                        : first < 0xf0 ? 3
                        : first < 0xf5 ? 4
                                       : 0;
  if (n == 0 || s.size() < n) return 0;
  for (std::size_t i = 1; i < n; ++i) {
    if ((at(i) & 0xc0u) != 0x80) return 0;
  }
  if (n == 3 && ((first == 0xe0 && at(1) < 0xa0) || (first == 0xed && at(1) > 0x9f))) return 0;
  if (n == 4 && ((first == 0xf0 && at(1) < 0x90) || (first == 0xf4 && at(1) > 0x8f))) return 0;
  return n;
}

}  // namespace

std::string printable(std::string_view name) {
  std::string out;
  for (std::size_t i = 0; i < name.size();) {
    if (i >= kMaxShown) {
      out += "...";
      break;
    }
    auto const c = static_cast<unsigned char>(name[i]);
    std::size_t const n = utf8_length(name.substr(i));
    bool const c1_control = n == 2 && c == 0xc2 && static_cast<unsigned char>(name[i + 1]) < 0xa0;
    if (n == 0 || c < 0x20 || c == 0x7f || c == '\\' || c1_control) {
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", c);
      ++i;
    } else {
      out += name.substr(i, n);
      i += n;
    }
  }
  return out;
}

Error in_member(Error error, std::string_view archive, std::string_view member) {
  if (!error.path.empty())
    error.message = fmt::format("{}: {}", printable(error.path), error.message);
  error.path =
      member.empty() ? std::string(archive) : fmt::format("{}: {}", archive, printable(member));
  return error;
}

}  // namespace lcfs::oci
