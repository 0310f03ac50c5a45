// SPDX-License-Identifier: Apache-2.0
// The stores of tests/data: fsck names the defect of each, and repairs it; the engine reads the
// sound one.  A new version of the format adds its own, with LCFS_KEEP_IMAGES=tests/data set: first
// BUILD/tests/fsck_test, which writes the sound one, then BUILD/tests/fsck_rules_test.
#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "engine/store.h"
#include "tests/support/kept_image.h"
#include "tests/support/mend.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

TEST_CASE(
    "kept images: the defect of each is told under the name it always had, and after fsck -y there "
    "is none") {
  std::set<std::string> codes;
  for (auto const& image : kept_images(LCFS_SOURCE_DIR "/tests/data")) {
    CAPTURE(image.name);
    CHECK(image.version == "v1");
    codes.insert(image.code);
    auto const report = fsck::check(*image.device, {});
    REQUIRE_MESSAGE(report.ok(), (report ? "" : report.error().text()));
    if (image.code == "sound") {
      CHECK(report->clean());
      continue;
    }
    auto const named = [&](fsck::Finding const& f) {
      return fsck::code_name(f.code) == image.code;
    };
    CHECK(std::any_of(report->findings.begin(), report->findings.end(), named));
    auto const m = mend(*image.device);
    CHECK_MESSAGE(m.ok, (m.ok ? "" : m.error.text()));
    CHECK(findings_of(*image.device) == "");
  }
  CHECK(codes.contains("sound"));
  // A store in memory refuses no read; every other code has an image.
  for (int code = 0; code <= static_cast<int>(fsck::Code::kHistory); ++code) {
    auto const name = fsck::code_name(static_cast<fsck::Code>(code));
    CHECK_MESSAGE((name == "io" || codes.contains(std::string(name))), std::string(name));
  }
}

TEST_CASE("kept images: a sound store of format version 1 opens, and its files read") {
  for (auto& image : kept_images(LCFS_SOURCE_DIR "/tests/data")) {
    if (image.code != "sound") continue;
    auto store = Store::open(std::move(image.device), {});
    REQUIRE_MESSAGE(store.ok(), (store ? "" : store.error().text()));
    auto const id = (*store)->resolve_layer("test:1");
    REQUIRE(id.ok());
    auto const layer = (*store)->layer(*id);
    REQUIRE(layer.ok());
    auto const etc = (*layer)->lookup((*layer)->root(), "etc");
    REQUIRE(etc.ok());
    auto const hard = (*layer)->lookup(etc->inode, "hard");
    REQUIRE(hard.ok());
    AlignedBuffer buffer(4096);
    auto const n = (*layer)->read(hard->inode, 0, buffer.span());
    REQUIRE(n.ok());
    CHECK(std::string_view(reinterpret_cast<char const*>(buffer.data()), *n) == "hello");
  }
}
