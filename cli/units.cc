// SPDX-License-Identifier: Apache-2.0
#include "cli/units.h"

#include <fmt/format.h>

#include <array>
#include <ctime>

namespace lcfs::cli {
namespace {

// Empty if the time is beyond the range of the calendar.
std::string calendar(std::int64_t sec, char const* format) {
  std::time_t const time = sec;
  std::tm tm{};
  if (gmtime_r(&time, &tm) == nullptr) return {};
  std::array<char, 64> text{};
  return {text.data(), std::strftime(text.data(), text.size(), format, &tm)};
}

std::int64_t floor_seconds(std::int64_t ns) {
  return ns / 1'000'000'000 - (ns % 1'000'000'000 < 0 ? 1 : 0);
}

}  // namespace

std::string time_text(std::int64_t ns) {
  return ns == 0 ? "-" : calendar(floor_seconds(ns), "%Y-%m-%d %H:%M:%S");
}

std::string time_json(std::int64_t ns) { return calendar(floor_seconds(ns), "%Y-%m-%dT%H:%M:%SZ"); }

std::string timestamp_text(format::Timestamp const& time) {
  auto date = calendar(time.sec, "%Y-%m-%d %H:%M:%S");
  if (date.empty()) date = fmt::format("@{}", time.sec);
  return fmt::format("{}.{:09}", date, time.nsec);
}

}  // namespace lcfs::cli
