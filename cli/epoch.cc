// SPDX-License-Identifier: Apache-2.0
#include "cli/epoch.h"

#include <fmt/format.h>

#include <charconv>

namespace lcfs::cli {

Result<std::optional<std::int64_t>> source_date_epoch(Io const& io) {
  auto const text = io.env ? io.env("SOURCE_DATE_EPOCH") : std::nullopt;
  if (!text || text->empty()) return std::optional<std::int64_t>{};
  std::int64_t seconds = 0;
  auto const [end, bad] = std::from_chars(text->data(), text->data() + text->size(), seconds);
  if (bad != std::errc{} || end != text->data() + text->size())
    return Error::invalid(fmt::format("SOURCE_DATE_EPOCH is not a number: \"{}\"", *text));
  return std::optional<std::int64_t>(seconds);
}

}  // namespace lcfs::cli
