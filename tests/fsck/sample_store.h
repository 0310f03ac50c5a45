// SPDX-License-Identifier: Apache-2.0
// A store with something of everything, made by the tests' own writer and ready to be damaged, and
// what tests ask of fsck's report on it.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>

#include "fsck/check.h"
#include "tests/support/raw_store.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

inline std::string noise(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::string s(size, '\0');
  for (auto& c : s) c = static_cast<char>(random() | 1);
  return s;
}

struct Sample {
  RawStore s;
  std::uint64_t base = 0, child = 0, clone = 0, image = 0;
  std::uint64_t etc = 0, big = 0, small = 0, link = 0, sub = 0, orphan = 0;

  // damage: changes the base's records before they are written; then the base stays the only layer.
  explicit Sample(void (*damage)(Sample&) = nullptr) {
    base = s.add_layer("base", 0);
    etc = s.dir(base, s.root(base), "etc");
    sub = s.dir(base, etc, "sub");
    big =
        s.file(base, etc, "big", noise(3 * 4096 + 5, 1) + std::string(9000, '\0') + noise(5000, 2));
    small = s.file(base, sub, "small", "hello");
    s.link(base, small, etc, "hard");
    link = s.symlink(base, etc, "link", "sub/small");
    s.xattr(base, big, "user.a", noise(7000, 3));
    s.xattr(base, big, "user.b", "");
    for (int i = 0; i < 40; ++i)
      s.file(base, sub, "f" + std::to_string(i), i % 2 != 0 ? std::string("x") : noise(5000, 9));
    auto& info = s.layer(base).info;
    info.has_digests = true;
    info.chain_id.fill(0x11);
    info.diff_id.fill(0x22);
    if (damage != nullptr) damage(*this);
    s.seal_layer(base);
    s.freeze(base);
    image = s.add_image("test:1", base, noise(9000, 5), "the manifest");
    if (damage != nullptr) return;

    child = s.add_layer("child", base);
    s.file(child, etc, "new", noise(20000, 4));
    s.unlink(child, small, etc, "hard");
    orphan = s.orphan(child);
    s.seal_layer(child);
    clone = s.add_layer("clone", child);
  }
  fsck::Report check(fsck::Options const& options = {}) {
    auto r = fsck::check(s.device(), options);
    REQUIRE_MESSAGE(r.ok(), (r ? "" : r.error().text()));
    return *std::move(r);
  }
  Records& records(std::uint64_t layer) { return s.layer(layer).records; }
  // The one record of that kind whose value holds `text`.
  std::string& with(Records& records, Kind kind, std::string_view text, Key* key = nullptr) {
    for (auto& [k, v] : records)
      if (k.kind == kind && v.find(text) != std::string::npos) {
        if (key != nullptr) *key = k;
        return v;
      }
    FAIL("no such record: " << text);
    return records.begin()->second;
  }
};

inline std::string dump(fsck::Report const& r) {
  std::string out;
  for (auto const& f : r.findings)
    out += std::string(fsck::code_name(f.code)) + ": " + f.line() + "\n";
  return out;
}

template <class T>
T need(Result<T> result) {
  REQUIRE_MESSAGE(result.ok(), result.error().text());
  return *std::move(result);
}
template <class T>
void done(Result<T> const& result) {
  REQUIRE_MESSAGE(result.ok(), result.error().text());
}

inline bool has(fsck::Report const& r, fsck::Code code, std::string_view text,
                std::string_view layer = {}, std::string_view path = {}) {
  return std::any_of(r.findings.begin(), r.findings.end(), [&](fsck::Finding const& f) {
    return f.code == code && f.text.find(text) != std::string::npos &&
           (layer.empty() || f.layer_name == layer) && (path.empty() || f.path == path);
  });
}

}  // namespace lcfs::test
