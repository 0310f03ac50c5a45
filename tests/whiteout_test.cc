// SPDX-License-Identifier: Apache-2.0
#include "importer/whiteout.h"

#include <doctest/doctest.h>

using namespace lcfs;
using namespace lcfs::importer;

TEST_CASE("whiteout: names that hide, that make opaque, that mean nothing, and that are refused") {
  struct {
    char const* path;
    WhiteoutKind kind;
    char const* hidden;
  } const cases[] = {
      {"a/b", WhiteoutKind::kNone, ""},
      {"a.wh.b", WhiteoutKind::kNone, ""},
      {".wha", WhiteoutKind::kNone, ""},
      {".wh.a", WhiteoutKind::kHides, "a"},
      {"./.wh.a", WhiteoutKind::kHides, "./a"},
      {"/x/.wh.a/", WhiteoutKind::kHides, "/x/a"},
      {"x/.wh....", WhiteoutKind::kHides, "x/..."},
      {"x/.wh..hidden", WhiteoutKind::kHides, "x/.hidden"},
      {".wh..wh..opq", WhiteoutKind::kOpaque, ""},
      {"x/y/.wh..wh..opq", WhiteoutKind::kOpaque, "x/y/"},
      {".wh..wh.plnk", WhiteoutKind::kIgnored, ""},
      {".wh..wh.aufs", WhiteoutKind::kIgnored, ""},
      {".wh..wh.orph/", WhiteoutKind::kIgnored, ""},
      {".wh..wh.plnk/12.34", WhiteoutKind::kIgnored, ""},
  };
  for (auto const& c : cases) {
    CAPTURE(c.path);
    auto const got = classify_whiteout(c.path);
    REQUIRE(got);
    CHECK(got->kind == c.kind);
    CHECK(got->path == c.hidden);
  }
  for (char const* path : {".wh.", "a/.wh.", "a/.wh./", ".wh..", ".wh...", "a/.wh...", ".wh.a/b"}) {
    CAPTURE(path);
    auto const got = classify_whiteout(path);
    REQUIRE_FALSE(got);
    CHECK(got.error().code == Errc::kInvalid);
  }
}
