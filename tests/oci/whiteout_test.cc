// SPDX-License-Identifier: Apache-2.0
#include "oci/whiteout.h"

#include <doctest/doctest.h>

using namespace lcfs;
using namespace lcfs::oci;

TEST_CASE("whiteout: names that hide, that make opaque, that mean nothing, and that are refused") {
  struct {
    char const* path;
    oci::WhiteoutKind kind;
    char const* hidden;
  } const cases[] = {
      {"a/b", oci::WhiteoutKind::kNone, ""},
      {"a.wh.b", oci::WhiteoutKind::kNone, ""},
      {".wha", oci::WhiteoutKind::kNone, ""},
      {".wh.a", oci::WhiteoutKind::kHides, "a"},
      {"./.wh.a", oci::WhiteoutKind::kHides, "./a"},
      {"/x/.wh.a/", oci::WhiteoutKind::kHides, "/x/a"},
      {"x/.wh....", oci::WhiteoutKind::kHides, "x/..."},
      {"x/.wh..hidden", oci::WhiteoutKind::kHides, "x/.hidden"},
      {".wh..wh..opq", oci::WhiteoutKind::kOpaque, ""},
      {"x/y/.wh..wh..opq", oci::WhiteoutKind::kOpaque, "x/y/"},
      {".wh..wh.plnk", oci::WhiteoutKind::kIgnored, ""},
      {".wh..wh.aufs", oci::WhiteoutKind::kIgnored, ""},
      {".wh..wh.orph/", oci::WhiteoutKind::kIgnored, ""},
      {".wh..wh.plnk/12.34", oci::WhiteoutKind::kIgnored, ""},
  };
  for (auto const& c : cases) {
    CAPTURE(c.path);
    auto const got = oci::classify_whiteout(c.path);
    REQUIRE(got);
    CHECK(got->kind == c.kind);
    CHECK(got->path == c.hidden);
  }
  for (char const* path : {".wh.", "a/.wh.", "a/.wh./", ".wh..", ".wh...", "a/.wh...", ".wh.a/b"}) {
    CAPTURE(path);
    auto const got = oci::classify_whiteout(path);
    REQUIRE_FALSE(got);
    CHECK(got.error().code == Errc::kInvalid);
  }
}
