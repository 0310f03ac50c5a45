// SPDX-License-Identifier: Apache-2.0
// A TarHandler that remembers: what a tar reader told, to be compared.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "importer/tar_reader.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

struct SeenEntry {
  importer::TarEntry entry{};
  std::string data{};  // holes as zeroes
  std::uint64_t holes = 0;
  bool ended = false;
};

class TarRecorder final : public importer::TarHandler {
 public:
  Status entry(importer::TarEntry&& entry) override {
    seen.push_back({std::move(entry), {}, 0, false});
    return {};
  }
  Status data(std::span<std::byte const> bytes) override {
    seen.back().data.append(reinterpret_cast<char const*>(bytes.data()), bytes.size());
    return {};
  }
  Status hole(std::uint64_t length) override {
    seen.back().holes += length;
    if (length < (1u << 20)) seen.back().data.append(length, '\0');
    return {};
  }
  Status end_entry() override {
    seen.back().ended = true;
    return {};
  }

  std::vector<SeenEntry> seen{};
};

// Feeds `tar` in pieces of `step` bytes (0: all at once), then finishes.
inline Status read_tar(std::string_view tar, TarRecorder& into, std::size_t step = 0) {
  importer::TarReader reader(into);
  auto const bytes = std::as_bytes(std::span{tar.data(), tar.size()});
  if (step == 0) step = std::max<std::size_t>(1, bytes.size());
  for (std::size_t at = 0; at < bytes.size(); at += step) {
    LCFS_TRY(reader.feed(bytes.subspan(at, std::min(step, bytes.size() - at))));
  }
  return reader.finish();
}

}  // namespace lcfs::test
