// SPDX-License-Identifier: Apache-2.0
#include "importer/decompress.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <span>
#include <string>
#include <string_view>

#include "tests/support/tar_builder.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::importer;
using namespace lcfs::test;

namespace {

// Decodes `packed` fed `in_step` bytes at a time into buffers of `out_step`.
Result<std::string> decode(std::string_view packed, std::size_t in_step, std::size_t out_step) {
  auto const all = std::as_bytes(std::span{packed.data(), packed.size()});
  LCFS_TRY_ASSIGN(auto const decoder, make_decoder(sniff(all)));
  std::string out, buffer(out_step, '\0');
  for (std::size_t at = 0; at < all.size(); at += in_step) {
    auto in = all.subspan(at, std::min(in_step, all.size() - at));
    for (;;) {
      auto room = std::as_writable_bytes(std::span{buffer.data(), buffer.size()});
      LCFS_TRY(decoder->run(in, room));
      out.append(buffer.data(), buffer.size() - room.size());
      if (!room.empty()) break;
    }
    REQUIRE(in.empty());
  }
  LCFS_TRY(decoder->finish());
  return out;
}

std::string sample(std::size_t size) {
  std::string text;
  for (std::uint32_t i = 0, x = 1; text.size() < size; ++i) {
    x = x * 1664525u + 1013904223u;
    text += i % 3 == 0 ? std::string("layer layer ") : std::string(1, static_cast<char>(x >> 24));
  }
  text.resize(size);
  return text;
}

void check_all_steps(std::string const& packed, std::string const& plain) {
  for (std::size_t const in_step :
       {std::size_t{1}, std::size_t{3}, std::size_t{17}, std::size_t{4096}, packed.size()}) {
    for (std::size_t const out_step : {std::size_t{1}, std::size_t{100}, std::size_t{65536}}) {
      CAPTURE(in_step);
      CAPTURE(out_step);
      auto const got = decode(packed, in_step, out_step);
      REQUIRE_MESSAGE(got, (got ? "" : got.error().text()));
      CHECK(*got == plain);
    }
  }
}

}  // namespace

TEST_CASE("decompress: a stream is known by its first bytes") {
  auto const kind = [](std::string const& s) {
    return sniff(std::as_bytes(std::span{s.data(), s.size()}));
  };
  CHECK(kind(gzip("x")) == Compression::kGzip);
  CHECK(kind(zstd("x")) == Compression::kZstd);
  CHECK(kind(zstd_skippable("x")) == Compression::kZstd);
  CHECK(kind(xz_magic()) == Compression::kXz);
  CHECK(kind(TarBuilder().file("f", "x").text()) == Compression::kNone);
  CHECK(kind("") == Compression::kNone);
  auto const xz = make_decoder(Compression::kXz);
  REQUIRE_FALSE(xz);
  CHECK(xz.error().code == Errc::kUnsupported);
}

TEST_CASE(
    "decompress: gzip with all header fields, several members and padding, whatever the pieces") {
  std::string const a = sample(70'000), b = sample(3000);
  check_all_steps(gzip(a), a);
  check_all_steps(gzip_with_header(b), b);
  check_all_steps(gzip(b) + gzip_with_header("") + gzip(b) + std::string(700, '\0'), b + b);
  check_all_steps(gzip(""), "");
}

TEST_CASE(
    "decompress: zstd with several frames, skippable ones, with and without checksum, whatever the "
    "pieces") {
  std::string const a = sample(70'000), b = sample(3000);
  check_all_steps(zstd(a), a);
  check_all_steps(
      zstd_skippable("note") + zstd(b, false) + zstd_skippable("") + zstd(b) + std::string(5, '\0'),
      b + b);
  check_all_steps(zstd(""), "");
}

TEST_CASE("decompress: cut short at any byte is an error, never a shorter file") {
  std::string const plain = sample(2000);
  for (auto const& packed :
       {gzip(plain), gzip_with_header(plain), zstd(plain), gzip(plain) + gzip(plain)}) {
    for (std::size_t n = 6; n < packed.size(); ++n) {
      auto const got = decode(std::string_view(packed).substr(0, n), 64, 512);
      // Two members: the border between them is an end like any other; the layer's digest tells.
      if (got.ok() && n != gzip(plain).size())
        FAIL_CHECK("cut at " << n << " of " << packed.size());
    }
  }
}

TEST_CASE(
    "decompress: a flipped bit anywhere in a gzip or zstd stream with checksum never gives other "
    "bytes") {
  std::string const plain = sample(1500);
  for (auto const& good : {gzip_with_header(plain), zstd(plain)}) {
    for (std::size_t i = 6; i < good.size(); ++i) {
      for (int bit = 0; bit < 8; bit += 3) {
        std::string bad = good;
        bad[i] = static_cast<char>(bad[i] ^ (1 << bit));
        auto const got = decode(bad, 64, 512);
        if (got.ok() && *got != plain) FAIL_CHECK("byte " << i << " bit " << bit);
      }
    }
  }
}

TEST_CASE("decompress: what follows the end is padding or an error that names its byte") {
  std::string const g = gzip("hello"), z = zstd("hello");
  struct {
    std::string packed;
    std::uint64_t offset;
  } const cases[] = {{g + "garbage", g.size()},
                     {g + std::string(3, '\0') + "x", g.size() + 3},
                     {g + std::string(3, '\0') + g, g.size() + 3},
                     {z + "garbage", z.size()},
                     {z + std::string(2, '\0') + z, z.size() + 2}};
  for (auto const& c : cases) {
    for (std::size_t const step : {std::size_t{1}, c.packed.size()}) {
      auto const got = decode(c.packed, step, 100);
      REQUIRE_FALSE(got);
      CHECK(got.error().offset == c.offset);
      CHECK(got.error().message.find("trailing garbage after") == 0);
    }
  }
  auto const half = decode(g + "\x1fnot gzip", 100, 100);
  REQUIRE_FALSE(half);
  CHECK(half.error().message.find("trailing garbage after") == 0);
}

TEST_CASE("decompress: wrong sums, sizes and methods are told apart") {
  std::string bad = gzip("hello hello hello");
  bad[bad.size() - 8] = static_cast<char>(bad[bad.size() - 8] ^ 1);
  CHECK(decode(bad, 100, 100).error().message == "gzip checksum or size mismatch");
  bad = gzip("hello");
  bad[bad.size() - 1] = 1;
  CHECK(decode(bad, 100, 100).error().message == "gzip checksum or size mismatch");
  bad = gzip("hello");
  bad[2] = 7;
  CHECK(decode(bad, 100, 100).error().message == "gzip compression method is not deflate");
  bad = gzip_with_header("hello");
  bad[20] = static_cast<char>(bad[20] ^ 0x10);
  CHECK_FALSE(decode(bad, 100, 100));
  bad = zstd("hello hello hello");
  bad.back() = static_cast<char>(bad.back() ^ 1);
  CHECK(decode(bad, 100, 100).error().message.find("damaged zstd data") == 0);
}

TEST_CASE("decompress: a zstd window over 128 MiB is refused before memory is taken") {
  // Frame header: magic, descriptor with a window byte, window 2^30.
  std::string const frame = std::string("\x28\xb5\x2f\xfd\x00\xa0", 6) + std::string("\x01\0\0", 3);
  auto const got = decode(frame, 100, 100);
  REQUIRE_FALSE(got);
  CHECK(got.error().message.find("damaged zstd data") == 0);
}
