// SPDX-License-Identifier: Apache-2.0
#include "tests/support/support.h"

#include <stdlib.h>

#include <cstdlib>
#include <stdexcept>
#include <system_error>

#include "tests/support/vocabulary.h"

namespace lcfs::test {

std::uint64_t number_from(char const* variable, std::uint64_t otherwise) {
  char const* const text = std::getenv(variable);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

TempDir::TempDir() {
  std::string name = (std::filesystem::temp_directory_path() / ("lcfs-test-" + std::string(6, 'X')))
                         .string();  // mkdtemp(3) fills them in
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp " + name);
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace lcfs::test
