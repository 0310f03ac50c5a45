// SPDX-License-Identifier: Apache-2.0
#include "oci/sha256.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <utility>

#include "format/records.h"

using namespace lcfs;
using namespace lcfs::format;
using namespace lcfs::oci;

namespace {

std::span<std::byte const> bytes_of(std::string const& s) {
  return std::as_bytes(std::span{s.data(), s.size()});
}

std::string hex(oci::Sha256& hash) { return digest_hex(hash.finish()); }

std::string noise(std::mt19937_64& random, std::size_t size) {
  std::string out(size, '\0');
  for (auto& c : out) c = static_cast<char>(random());
  return out;
}

}  // namespace

TEST_CASE("sha256: the examples of FIPS 180-4, by whatever does it") {
  std::pair<std::string, char const*> const examples[] = {
      {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
      {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
      {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
       "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
      {std::string(1'000'000, 'a'),
       "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"}};
  for (auto const by : {oci::Sha256::By::kBest, oci::Sha256::By::kOpenssl}) {
    for (auto const& [text, want] : examples) {
      oci::Sha256 hash(by);
      hash.update(bytes_of(text));
      CHECK(hex(hash) == want);
    }
  }
}

TEST_CASE(
    "sha256: in pieces of every size, alone and two at once, the same as by OpenSSL in one piece") {
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::string const texts[] = {noise(random, random() % 700), noise(random, random() % 700)};
    oci::Sha256 hashes[2],
        whole[2] = {oci::Sha256(oci::Sha256::By::kOpenssl), oci::Sha256(oci::Sha256::By::kOpenssl)};
    std::span<std::byte const> left[2];
    for (int i = 0; i < 2; ++i) {
      left[i] = bytes_of(texts[i]);
      whole[i].update(left[i]);
    }
    auto take = [&](int i) {
      auto const n =
          std::min<std::size_t>(left[i].size(), random() % (random() % 2 == 0 ? 300 : 70));
      auto const part = left[i].first(n);
      left[i] = left[i].subspan(n);
      return part;
    };
    while (!left[0].empty() || !left[1].empty()) {
      if (random() % 3 == 0) {
        auto const i = static_cast<int>(random() % 2);
        hashes[i].update(take(i));
      } else {
        auto const a = take(0), b = take(1);
        oci::Sha256::update(hashes[0], a, hashes[1], b);
      }
    }
    REQUIRE(hex(hashes[0]) == hex(whole[0]));
    REQUIRE(hex(hashes[1]) == hex(whole[1]));
  }
}

TEST_CASE("sha256: one stream by OpenSSL, the other not, at once") {
  std::string const text(1000, 'x');
  oci::Sha256 a(oci::Sha256::By::kOpenssl), b;
  oci::Sha256::update(a, bytes_of(text), b, bytes_of(text));
  CHECK(hex(a) == hex(b));
}
