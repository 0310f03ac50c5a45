// SPDX-License-Identifier: Apache-2.0
// Small things that many tests need.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "tests/support/vocabulary.h"

namespace lcfs::test {

inline std::span<std::byte const> bytes_of(std::string_view s) {
  return std::as_bytes(std::span{s.data(), s.size()});
}

// The number in an environment variable, for searches longer or other than usual.
std::uint64_t number_from(char const* variable, std::uint64_t otherwise);

// A directory of its own under $TMPDIR, removed with all its contents at the end of the scope.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(TempDir const&) = delete;
  TempDir& operator=(TempDir const&) = delete;
  [[nodiscard]] std::filesystem::path const& path() const { return path_; }
  [[nodiscard]] std::string file(std::string const& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace lcfs::test
