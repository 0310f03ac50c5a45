// SPDX-License-Identifier: Apache-2.0
#include "format/result.h"

#include <doctest/doctest.h>

#include <cerrno>

using namespace lcfs;

namespace {
Result<int> half(int v) {
  if (v % 2 != 0) return Error{Errc::kInvalid, "odd", 0, "number", 7};
  return v / 2;
}
Result<int> quarter(int v) {
  LCFS_TRY_ASSIGN(int h, half(v));
  LCFS_TRY(half(h));
  return h / 2;
}
}  // namespace

TEST_CASE("result: LCFS_TRY hands the first error to the caller, unchanged") {
  CHECK(*quarter(8) == 2);
  auto r = quarter(6);
  REQUIRE_FALSE(r);
  CHECK(r.error().text() == "number: at byte 0x7: odd");
  CHECK(r.error().to_errno() == EINVAL);
}

TEST_CASE("result: text leaves out what is not known, and names the errno") {
  CHECK(Error{Errc::kIo, "cannot write", ENOSPC, {}, kNoOffset}.text() ==
        "cannot write: No space left on device");
  CHECK(fs_error(ENOTEMPTY).to_errno() == ENOTEMPTY);
}
