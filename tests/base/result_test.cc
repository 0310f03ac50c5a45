// SPDX-License-Identifier: Apache-2.0
#include "base/result.h"

#include <doctest/doctest.h>

#include <cerrno>

using namespace lcfs;

namespace {
Result<int> half(int v) {
  if (v % 2 != 0) return Error::invalid("odd").in("number").at(7);
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
  CHECK(r.error().text() == "number: odd");
  CHECK(r.error().text(Offsets::kShow) == "number: offset 0x7: odd");
  CHECK(r.error().to_errno() == EINVAL);
}

TEST_CASE("result: text leaves out what is not known, and names the errno") {
  CHECK(Error::io("cannot write", EIO).text() == "cannot write: Input/output error");
  CHECK(fs_error(ENOTEMPTY).to_errno() == ENOTEMPTY);
}

TEST_CASE("result: the errno of a failed call gives the kind of error") {
  CHECK(Error::io("", ENOSPC).code == Errc::kNoSpace);
  CHECK(Error::io("", EDQUOT).code == Errc::kNoSpace);
  CHECK(Error::io("", ENOENT).code == Errc::kNotFound);
  CHECK(Error::io("", EEXIST).code == Errc::kExists);
  CHECK(Error::io("", EACCES).code == Errc::kIo);
  CHECK(Error::io("no errno").text() == "no errno");
}

TEST_CASE("result: an error can answer with an errno that its text does not spell out") {
  auto const over = Error::no_space("the quota is used up").as(EDQUOT);
  CHECK(over.text() == "the quota is used up");
  CHECK(over.to_errno() == EDQUOT);
  CHECK(Error::no_space("full").to_errno() == ENOSPC);
}
