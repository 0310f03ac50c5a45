// SPDX-License-Identifier: Apache-2.0
// Small things that many tests need.
#pragma once

#include <filesystem>
#include <string>

namespace lcfs::test {

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
