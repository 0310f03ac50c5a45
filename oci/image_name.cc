// SPDX-License-Identifier: Apache-2.0
#include "oci/image_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "oci/quote.h"

namespace lcfs::oci {
namespace {

constexpr std::size_t kMaxName = 255;  // limit of registries, without the tag
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

// "host", "host.name:5000", "[::1]": allowed only before the first slash.
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
  return Error::invalid(fmt::format("\"{}\" is not a valid image name: {}", printable(given), why));
}

// "docker.io/library/x:latest" for "x"; names with a registry or a digest stay.
std::string full_name(std::string_view name) {
  std::string out(name);
  auto const slash = out.find('/');
  std::string_view const first = std::string_view(out).substr(0, slash);
  bool const registry =
      slash != std::string::npos &&
      (first.find_first_of(".:") != std::string_view::npos || first == "localhost");
  if (!registry)
    out = fmt::format("docker.io/{}{}", slash == std::string::npos ? "library/" : "", out);
  auto const last = out.rfind('/');
  if (out.find('@') == std::string::npos && out.find(':', last) == std::string::npos)
    out += ":latest";
  return out;
}

}  // namespace

Result<std::string> full_image_name(std::string_view given) {
  if (given.find('@') != std::string_view::npos)
    return wrong(given, "it must not contain a digest");
  std::size_t const slash = given.rfind('/');
  std::size_t const colon = given.find(':', slash == std::string_view::npos ? 0 : slash);
  auto name = given.substr(0, colon);
  auto const tag =
      colon == std::string_view::npos ? std::string_view("latest") : given.substr(colon + 1);
  if (name.empty() || name.size() > kMaxName)
    return wrong(given, fmt::format("it must have 1 to {} characters before the tag", kMaxName));
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
    return wrong(given, "it looks like a digest");
  }
  if (name == "sha256" && tag.size() == 64 &&
      tag.find_first_not_of("0123456789abcdef") == std::string_view::npos) {
    return wrong(given, "it looks like a digest");
  }
  for (bool first = true; !name.empty() || first; first = false) {
    auto const part = name.substr(0, name.find('/'));
    bool const last = part.size() == name.size();
    if (!is_component(part) && (!first || last || !is_domain(part))) {
      return wrong(given,
                   "each part consists of lower-case letters and digits, separated by . _ or -");
    }
    if (last) break;
    name.remove_prefix(part.size() + 1);
    if (name.empty()) return wrong(given, "it ends in a slash");
  }
  return whole;
}

bool same_image_name(std::string_view a, std::string_view b) {
  return a == b || full_name(a) == full_name(b);
}

}  // namespace lcfs::oci
