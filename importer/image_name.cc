// SPDX-License-Identifier: Apache-2.0
#include "importer/image_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "importer/quote.h"

namespace lcfs::importer {
namespace {

constexpr std::size_t kMaxName = 255;  // what registries take, the tag apart
constexpr std::size_t kMaxTag = 128;

bool is_lower(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool is_word(char c) { return is_lower(c) || (c >= 'A' && c <= 'Z') || c == '_'; }

// Letters and digits, with ".", "_", "__" or dashes between them.
bool is_component(std::string_view text) {
  if (text.empty() || !is_lower(text.front()) || !is_lower(text.back())) return false;
  for (std::size_t i = 0; i < text.size();) {
    if (is_lower(text[i])) {
      ++i;
      continue;
    }
    std::size_t n = i;
    while (!is_lower(text[n])) ++n;
    auto const between = text.substr(i, n - i);
    bool const dashes = between.find_first_not_of('-') == std::string_view::npos;
    if (between != "." && between != "_" && between != "__" && !dashes) return false;
    i = n;
  }
  return true;
}

// "host", "host.name:5000", "[::1]": what may stand before the first slash only.
bool is_domain(std::string_view text) {
  auto const host = text.substr(0, text.rfind(':') == std::string_view::npos || text.ends_with(']')
                                       ? text.size()
                                       : text.rfind(':'));
  auto const port = text.substr(host.size());
  if (!port.empty() &&
      (port.size() == 1 || port.find_first_not_of("0123456789", 1) != std::string_view::npos))
    return false;
  if (host.starts_with('['))
    return host.ends_with(']') &&
           host.find_first_not_of("0123456789abcdefABCDEF:", 1) == host.size() - 1;
  return !host.empty() && host.front() != '-' && host.front() != '.' && host.back() != '-' &&
         host.back() != '.' && std::all_of(host.begin(), host.end(), [](char c) {
           return (is_word(c) && c != '_') || c == '-' || c == '.';
         });
}

Error wrong(std::string_view given, std::string_view why) {
  return Error{Errc::kInvalid,
               fmt::format("\"{}\" is no name for an image: {}", printable(given), why)};
}

}  // namespace

Result<std::string> full_image_name(std::string_view given) {
  if (given.find('@') != std::string_view::npos)
    return wrong(given, "it has a digest, which comes from the image itself");
  std::size_t const slash = given.rfind('/');
  std::size_t const colon = given.find(':', slash == std::string_view::npos ? 0 : slash);
  auto name = given.substr(0, colon);
  auto const tag =
      colon == std::string_view::npos ? std::string_view("latest") : given.substr(colon + 1);
  if (name.empty() || name.size() > kMaxName)
    return wrong(given, fmt::format("it has 1 to {} characters before the tag", kMaxName));
  if (tag.empty() || tag.size() > kMaxTag || !is_word(tag.front()) ||
      !std::all_of(tag.begin(), tag.end(),
                   [](char c) { return is_word(c) || c == '.' || c == '-'; })) {
    return wrong(given,
                 "a tag has 1 to 128 of the characters A-Z a-z 0-9 _ . - and begins with none of "
                 "the last two");
  }
  auto const whole = std::string(name) + ":" + std::string(tag);
  if (name.find('/') == std::string_view::npos && name.size() == 64 &&
      name.find_first_not_of("0123456789abcdef") == std::string_view::npos) {
    return wrong(given, "it would be taken for a digest");
  }
  if (name == "sha256" && tag.size() == 64 &&
      tag.find_first_not_of("0123456789abcdef") == std::string_view::npos) {
    return wrong(given, "it would be taken for a digest");
  }
  for (bool first = true; !name.empty() || first; first = false) {
    auto const part = name.substr(0, name.find('/'));
    bool const last = part.size() == name.size();
    if (!is_component(part) && (!first || last || !is_domain(part))) {
      return wrong(given,
                   "its parts have lower-case letters and digits, with . _ or - between them");
    }
    if (last) break;
    name.remove_prefix(part.size() + 1);
    if (name.empty()) return wrong(given, "it ends in a slash");
  }
  return whole;
}

}  // namespace lcfs::importer
