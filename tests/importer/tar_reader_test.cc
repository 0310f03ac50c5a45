// SPDX-License-Identifier: Apache-2.0
#include "importer/tar_reader.h"

#include <doctest/doctest.h>

#include <functional>
#include <string>

#include "tests/support/tar_builder.h"
#include "tests/support/tar_recorder.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::importer;
using namespace lcfs::test;

namespace {

// Reads in pieces of several sizes: all must say the same.
std::vector<SeenEntry> read_all(TarBuilder const& tar) {
  TarRecorder whole;
  auto const ok = read_tar(tar.text(), whole);
  REQUIRE_MESSAGE(ok, (ok ? "" : ok.error().text()));
  for (std::size_t const step :
       {std::size_t{1}, std::size_t{7}, std::size_t{511}, std::size_t{513}}) {
    CAPTURE(step);
    TarRecorder pieces;
    REQUIRE(read_tar(tar.text(), pieces, step));
    REQUIRE(pieces.seen.size() == whole.seen.size());
    for (std::size_t i = 0; i < pieces.seen.size(); ++i) {
      CHECK(pieces.seen[i].entry.path == whole.seen[i].entry.path);
      CHECK(pieces.seen[i].data == whole.seen[i].data);
      CHECK(pieces.seen[i].ended);
    }
  }
  return whole.seen;
}

SeenEntry read_one(TarBuilder const& tar) {
  auto seen = read_all(tar);
  REQUIRE(seen.size() == 1);
  return seen[0];
}

std::string padded_numbers(std::string text) {
  text.resize((text.size() + 511) / 512 * 512, '\0');
  return text;
}

}  // namespace

TEST_CASE("tar: every type of entry comes with its names, numbers and data") {
  TarBuilder tar;
  tar.file("f", "hello").directory("d/").symlink("s", "to/there").hardlink("h", "f");
  tar.block(TarBlock("c", '3').octal(329, 8, 5).octal(337, 8, 1))
      .block(TarBlock("b", '4').octal(329, 8, 8));
  tar.block(TarBlock("p", '6'))
      .member(TarBlock("seven", '7'), "contiguous")
      .member(TarBlock("old", '\0').v7(), "v7");
  tar.member(TarBlock("unknown", 'Q'), "data").end();
  auto const seen = read_all(tar);
  REQUIRE(seen.size() == 10);
  CHECK((seen[0].entry.type == TarType::kFile && seen[0].data == "hello" &&
         seen[0].entry.permissions == 0644));
  CHECK((seen[1].entry.type == TarType::kDirectory && seen[1].entry.path == "d/" &&
         seen[1].entry.permissions == 0755));
  CHECK((seen[2].entry.type == TarType::kSymlink && seen[2].entry.link == "to/there"));
  CHECK((seen[3].entry.type == TarType::kHardlink && seen[3].entry.link == "f"));
  CHECK((seen[4].entry.type == TarType::kCharDevice && seen[4].entry.dev_major == 5 &&
         seen[4].entry.dev_minor == 1));
  CHECK((seen[5].entry.type == TarType::kBlockDevice && seen[5].entry.dev_major == 8));
  CHECK(seen[6].entry.type == TarType::kFifo);
  CHECK(seen[7].data == "contiguous");
  CHECK(seen[8].data == "v7");
  CHECK((seen[9].entry.type == TarType::kFile && seen[9].data == "data"));
  CHECK(seen[2].entry.offset == 3 * 512);
}

TEST_CASE("tar: names come from prefix, pax, GNU long names; the more special wins") {
  std::string const long_name(300, 'n');
  CHECK(read_one(TarBuilder().block(TarBlock("name").at(345, "some/prefix")).end()).entry.path ==
        "some/prefix/name");
  CHECK(read_one(TarBuilder().block(TarBlock("name").gnu().at(345, "atime")).end()).entry.path ==
        "name");
  CHECK(read_one(TarBuilder()
                     .block(TarBlock("name")
                                .at(345, std::string(131, 'p'))
                                .at(476, "1234")
                                .at(508, std::string("tar\0", 4)))
                     .end())
            .entry.path == std::string(131, 'p') + "/name");
  CHECK(read_one(TarBuilder().block(TarBlock(std::string(100, 'x'))).end()).entry.path ==
        std::string(100, 'x'));
  CHECK(read_one(TarBuilder().gnu_long(long_name).block(TarBlock("short")).end()).entry.path ==
        long_name);
  CHECK(
      read_one(TarBuilder().gnu_long("long").pax({{"path", "pax"}}).block(TarBlock("short")).end())
          .entry.path == "pax");
  CHECK(read_one(TarBuilder().pax({{"path", "pax"}, {"path", ""}}).block(TarBlock("short")).end())
            .entry.path == "short");
  CHECK(read_one(TarBuilder()
                     .pax({{"hdrcharset", "BINARY"}, {"path", "\xff\xfe\n"}})
                     .block(TarBlock("s"))
                     .end())
            .entry.path == "\xff\xfe\n");
  auto const link =
      read_one(TarBuilder().gnu_long(long_name, 'K').block(TarBlock("s", '2').link("short")).end());
  CHECK(link.entry.link == long_name);
  CHECK(
      read_one(TarBuilder().pax({{"linkpath", "l"}}).block(TarBlock("s", '2').link("short")).end())
          .entry.link == "l");
}

TEST_CASE("tar: a global header holds for all that follow, a file's own goes before it") {
  TarBuilder tar;
  tar.pax({{"uid", "7"}, {"mtime", "1.5"}, {"comment", "x"}}, 'g').file("a", "");
  tar.pax({{"uid", "8"}}).file("b", "").file("c", "").pax({{"mtime", ""}}, 'g').file("d", "").end();
  auto const seen = read_all(tar);
  REQUIRE(seen.size() == 4);
  CHECK((seen[0].entry.uid == 7 && seen[0].entry.mtime == Timestamp{1, 500'000'000}));
  CHECK((seen[1].entry.uid == 8 && seen[1].entry.mtime == Timestamp{1, 500'000'000}));
  CHECK(seen[2].entry.uid == 7);
  CHECK((seen[3].entry.uid == 7 && seen[3].entry.mtime == Timestamp{0, 0}));
}

TEST_CASE("tar: numbers are octal, base-256 or decimal records, from far past to far future") {
  auto const one = [](TarBlock block) { return read_one(TarBuilder().block(block).end()).entry; };
  CHECK(one(TarBlock("f").octal(136, 12, 0777)).mtime.sec == 0777);
  CHECK(one(TarBlock("f").at(136, "   17 \0     ")).mtime.sec == 017);
  CHECK(one(TarBlock("f").at(108, std::string(8, '\0'))).uid == 0);
  CHECK(one(TarBlock("f").at(136, "777777777777")).mtime.sec == 0777777777777);
  CHECK(one(TarBlock("f").gnu().base256(136, 12, -1)).mtime.sec == -1);
  CHECK(one(TarBlock("f").gnu().base256(136, 12, std::int64_t{1} << 40)).mtime.sec ==
        std::int64_t{1} << 40);
  CHECK(one(TarBlock("f").gnu().base256(108, 8, 4294967294)).uid == 4294967294);
  CHECK(one(TarBlock("f").mode(0100000 | 06755)).permissions == 06755);
  struct {
    char const* text;
    Timestamp expected;
  } const times[] = {
      {"-1.5", {-2, 500'000'000}},  {"-1", {-1, 0}},
      {"-0.25", {-1, 750'000'000}}, {"1700000000.123456789", {1'700'000'000, 123'456'789}},
      {"1.0000000009", {1, 0}},     {"-1.0000000009", {-2, 999'999'999}},
      {"-0.9999999999", {-1, 0}},   {"99999999999", {99'999'999'999, 0}},
      {"0.5", {0, 500'000'000}},    {"3.", {3, 0}}};
  for (auto const& t : times) {
    CAPTURE(t.text);
    CHECK(read_one(TarBuilder().pax({{"mtime", t.text}}).file("f", "").end()).entry.mtime ==
          t.expected);
  }
  // A record makes up for a header field that can't hold the number, or holds nonsense.
  CHECK(
      read_one(
          TarBuilder().pax({{"uid", "4294967294"}}).block(TarBlock("f").at(108, "*garbage")).end())
          .entry.uid == 4294967294);
  TarBuilder sized;
  sized.pax({{"size", "5"}}).block(TarBlock("f").size(0)).data("12345").file("g", "").end();
  auto const seen = read_all(sized);
  REQUIRE(seen.size() == 2);
  CHECK(seen[0].data == "12345");
}

TEST_CASE(
    "tar: xattrs of star and libarchive, with any value, and ACL text as the kernel's bytes") {
  std::string const raw("\0=\n\xff", 4);
  TarBuilder tar;
  tar.pax({{"SCHILY.xattr.user.a", raw},
           {"SCHILY.xattr.user.empty", ""},
           {"SCHILY.xattr.user.b%3Dc", "x"},
           {"LIBARCHIVE.xattr.user.d%25e", "AP8K"},
           {"SCHILY.xattr.user.a", "last"}});
  auto const e = read_one(tar.file("f", "").end()).entry;
  REQUIRE(e.xattrs.size() == 4);
  CHECK((e.xattrs[0].first == "user.a" && e.xattrs[0].second == "last"));
  CHECK((e.xattrs[1].first == "user.empty" && e.xattrs[1].second.empty()));
  CHECK(e.xattrs[2].first == "user.b=c");
  CHECK((e.xattrs[3].first == "user.d%e" && e.xattrs[3].second == std::string("\0\xff\n", 3)));

  auto const acl =
      read_one(TarBuilder()
                   .pax({{"SCHILY.acl.access",
                          "user::rwx,user:joe:r-x:1001,group::r-x,mask::r-x,other::r--"}})
                   .file("f", "")
                   .end())
          .entry;
  REQUIRE(acl.xattrs.size() == 1);
  CHECK(acl.xattrs[0].first == "system.posix_acl_access");
  std::string const expected(
      "\2\0\0\0"
      "\1\0\7\0\xff\xff\xff\xff"
      "\2\0\5\0\xe9\3\0\0"
      "\4\0\5\0\xff\xff\xff\xff"
      "\x10\0\5\0\xff\xff\xff\xff"
      "\x20\0\4\0\xff\xff\xff\xff",
      44);
  CHECK(acl.xattrs[0].second == expected);
  CHECK(acl.permissions ==
        0754);  // the mask's bits, not the group's as bsdtar has them in the header
}

TEST_CASE("tar: the four kinds of sparse files are the same file") {
  // 4 bytes at 1000, 6 at 3000, 5000 in all.
  std::string const content = std::string(1000, '\0') + "abcd" + std::string(1996, '\0') +
                              "efghij" + std::string(1994, '\0');
  auto const check = [&](TarBuilder const& tar, std::string const& name) {
    auto const seen = read_all(tar);
    REQUIRE(seen.size() == 2);
    CHECK(seen[0].entry.path == name);
    CHECK(seen[0].entry.size == 5000);
    CHECK(seen[0].data == content);
    CHECK(seen[0].holes == 4990);
    CHECK(seen[1].data == "next");
  };
  auto const parts = [](TarBlock& b, std::size_t at) -> TarBlock& {
    return b.octal(at, 12, 1000)
        .octal(at + 12, 12, 4)
        .octal(at + 24, 12, 3000)
        .octal(at + 36, 12, 6);
  };
  TarBlock old("old", 'S');
  parts(old.gnu(), 386).octal(386 + 48, 12, 5000).octal(386 + 60, 12, 0).octal(483, 12, 5000);
  check(TarBuilder().member(old, "abcdefghij").file("n", "next").end(), "old");

  // The same with the second part in an extension block.
  TarBlock split("split", 'S');
  split.gnu().octal(386, 12, 1000).octal(398, 12, 4).at(482, "\1").octal(483, 12, 5000).size(10);
  std::string extension(512, '\0');
  extension.replace(0, 24, TarBlock().octal(0, 12, 3000).octal(12, 12, 6).text().substr(0, 24));
  check(TarBuilder().block(split).raw(extension).data("abcdefghij").file("n", "next").end(),
        "split");

  check(TarBuilder()
            .pax({{"GNU.sparse.size", "5000"},
                  {"GNU.sparse.numblocks", "2"},
                  {"GNU.sparse.offset", "1000"},
                  {"GNU.sparse.numbytes", "4"},
                  {"GNU.sparse.offset", "3000"},
                  {"GNU.sparse.numbytes", "6"}})
            .file("p00", "abcdefghij")
            .file("n", "next")
            .end(),
        "p00");
  check(TarBuilder()
            .pax({{"GNU.sparse.size", "5000"},
                  {"GNU.sparse.name", "real"},
                  {"GNU.sparse.map", "1000,4,3000,6,5000,0"}})
            .file("GNUSparseFile.1/p01", "abcdefghij")
            .file("n", "next")
            .end(),
        "real");
  check(TarBuilder()
            .pax({{"GNU.sparse.major", "1"},
                  {"GNU.sparse.minor", "0"},
                  {"GNU.sparse.name", "real"},
                  {"GNU.sparse.realsize", "5000"}})
            .file("GNUSparseFile.1/p10", padded_numbers("2\n1000\n4\n3000\n6\n") + "abcdefghij")
            .file("n", "next")
            .end(),
        "real");
  auto const hole = read_one(TarBuilder()
                                 .pax({{"GNU.sparse.major", "1"},
                                       {"GNU.sparse.minor", "0"},
                                       {"GNU.sparse.realsize", "1099511627776"}})
                                 .file("h", padded_numbers("1\n1099511627776\n0\n"))
                                 .end());
  CHECK((hole.holes == std::uint64_t{1} << 40 && hole.entry.size == std::uint64_t{1} << 40));
}

TEST_CASE("tar: v7 and GNU ways of saying directory, volume labels, sizes of what has no data") {
  TarBuilder tar;
  tar.member(TarBlock("label", 'V').gnu(), "")
      .block(TarBlock("dir/", '\0').v7())
      .block(TarBlock("dir2/"));
  tar.member(TarBlock("dump", 'D').gnu(), "Yfile")
      .block(TarBlock("link", '1').link("f").size(99))
      .block(TarBlock("d", '5').size(7));
  tar.block(TarBlock("last")).end();
  auto const seen = read_all(tar);
  REQUIRE(seen.size() == 6);
  for (int i : {0, 1, 2, 4})
    CHECK(seen[static_cast<std::size_t>(i)].entry.type == TarType::kDirectory);
  CHECK(seen[2].data.empty());
  CHECK(seen[3].entry.size == 0);
  CHECK(seen[5].entry.path == "last");
}

TEST_CASE("tar: the end may be two blocks of zeroes, one, or none; what follows it is ignored") {
  TarRecorder r;
  CHECK(read_tar(TarBuilder().file("a", "x").text(), r));
  CHECK(read_tar(TarBuilder().file("a", "x").raw(std::string(512, '\0')).text(), r));
  CHECK(read_tar(TarBuilder().file("a", "x").end().raw("garbage").text(), r));
  CHECK(read_tar("", r));
  CHECK(r.seen.size() == 3);
}

TEST_CASE("tar: both ways of summing up a header are right") {
  TarRecorder r;
  CHECK(read_tar(TarBuilder().block(TarBlock("\xff\xfe").signed_checksum()).text(), r));
  CHECK(read_tar(TarBuilder().block(TarBlock("\xff\xfe")).text(), r));
}

TEST_CASE("tar: each kind of damage is refused, at its byte, with its name") {
  struct Case {
    char const* name;
    std::function<TarBuilder()> make;
    std::uint64_t offset;
    char const* words;
  };
  auto const first = [](TarBlock const& b) { return [b] { return TarBuilder().block(b).end(); }; };
  auto const record = [](char const* key, char const* value) {
    return [=] { return TarBuilder().pax({{key, value}}).file("f", "").end(); };
  };
  Case const cases[] = {
      {"checksum",
       [] { return TarBuilder().file("a", "").block(TarBlock("b").bad_checksum()).end(); }, 512,
       "checksum"},
      {"text", [] { return TarBuilder().raw(std::string(512, 'x')); }, 0, "not a tar header"},
      {"negative size", first(TarBlock("f").gnu().base256(124, 12, -5)), 0, "size is negative"},
      {"huge size",
       first(TarBlock("f").gnu().at(
           124, std::string("\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12))),
       0, "size is too large"},
      {"letters in size", first(TarBlock("f").at(124, "12x4")), 0,
       "size is not an octal number: \"12x4"},
      {"uid -1", first(TarBlock("f").gnu().base256(108, 8, -1)), 0, "uid -1 is outside"},
      {"uid 2^32-1", first(TarBlock("f").gnu().base256(108, 8, 4294967295)), 0,
       "uid 4294967295 is outside"},
      {"device", first(TarBlock("c", '3').gnu().base256(329, 8, std::int64_t{1} << 33)), 0,
       "device major number"},
      {"pax uid", record("uid", "4294967295"), 512, "uid: \"4294967295\" is too large"},
      {"pax size", record("size", "-1"), 512, "size: \"-1\""},
      {"pax mtime", record("mtime", "soon"), 512, "mtime: \"soon\" is not a time"},
      {"pax xattr base64", record("LIBARCHIVE.xattr.user.x", "***"), 512, "base64"},
      {"pax length", [] { return TarBuilder().member(TarBlock("x", 'x'), "99 path=x\n").end(); },
       512, "invalid length"},
      {"pax length of a short record",
       [] { return TarBuilder().member(TarBlock("x", 'x'), "999 a=b\n").end(); }, 512,
       "invalid length"},
      {"pax length zero",
       [] { return TarBuilder().member(TarBlock("x", 'x'), "0 path=x\n").end(); }, 512,
       "invalid length"},
      {"pax no newline", [] { return TarBuilder().member(TarBlock("x", 'x'), "9 path=xy").end(); },
       512, "newline"},
      {"pax no equals", [] { return TarBuilder().member(TarBlock("x", 'x'), "8 pathx\n").end(); },
       512, "KEY=VALUE"},
      {"pax too long", first(TarBlock("x", 'x').size(2u << 20)), 0,
       "extended header of 2097152 bytes"},
      {"pax NUL in path",
       [] {
         return TarBuilder().pax({{"path", std::string("a\0b", 3)}}).file("f", "").end();
       },
       1024, "NUL byte: \"a\\x00b\""},
      {"GNU NUL in path",
       [] { return TarBuilder().gnu_long(std::string("a\0b", 3)).file("f", "").end(); }, 512,
       "contains a NUL byte"},
      {"pax alone",
       [] {
         return TarBuilder().pax({{"path", "a"}}).end();
       },
       1024, "ends after an extended header"},
      {"lone zero block",
       [] { return TarBuilder().file("a", "").raw(std::string(512, '\0')).file("b", "").end(); },
       1024, "single block of zeroes"},
      {"multi volume", first(TarBlock("m", 'M').gnu()), 0, "another volume"},
      {"sparse beyond", record("GNU.sparse.map", "0,1,5"), 512, "offset without a length"},
      {"sparse order",
       [] {
         return TarBuilder()
             .pax({{"GNU.sparse.size", "100"}, {"GNU.sparse.map", "50,5,40,5"}})
             .file("f", std::string(10, 'x'))
             .end();
       },
       0, "out of order"},
      {"sparse sum",
       [] {
         return TarBuilder()
             .pax({{"GNU.sparse.size", "100"}, {"GNU.sparse.map", "50,5"}})
             .file("f", std::string(10, 'x'))
             .end();
       },
       0, "sparse map covers 5 bytes, but the archive has 10"},
      {"sparse wraps",
       [] {
         return TarBuilder()
             .pax({{"GNU.sparse.size", "100"}, {"GNU.sparse.map", "50,4611686018427387904"}})
             .file("f", "")
             .end();
       },
       0, "out of order"},
      {"sparse map text",
       [] {
         return TarBuilder()
             .pax({{"GNU.sparse.major", "1"},
                   {"GNU.sparse.minor", "0"},
                   {"GNU.sparse.realsize", "5"}})
             .file("f", padded_numbers("1\nx\n"))
             .end();
       },
       1536, "damaged sparse map"},
      {"sparse map short",
       [] {
         return TarBuilder()
             .pax({{"GNU.sparse.major", "1"},
                   {"GNU.sparse.minor", "0"},
                   {"GNU.sparse.realsize", "5"}})
             .file("f", padded_numbers("3\n1\n"))
             .end();
       },
       1536, "damaged sparse map"},
      {"sparse count",
       [] {
         return TarBuilder()
             .pax({{"GNU.sparse.major", "1"},
                   {"GNU.sparse.minor", "0"},
                   {"GNU.sparse.realsize", "5"}})
             .file("f", padded_numbers("9999999999\n"))
             .end();
       },
       1536, "too many parts"},
      {"ACL name",
       record("SCHILY.acl.access", "user::rwx,user:joe:r-x,group::r-x,mask::r-x,other::r--"), 1024,
       "has no numeric id"},
      {"ACL text", record("SCHILY.acl.access", "nonsense"), 1024, "damaged ACL entry"},
      {"ACL incomplete", record("SCHILY.acl.access", "user::rwx"), 1024, "owner, group or others"},
  };
  for (auto const& c : cases) {
    CAPTURE(c.name);
    for (std::size_t const step : {std::size_t{0}, std::size_t{1}}) {
      TarRecorder r;
      auto const ok = read_tar(c.make().text(), r, step);
      REQUIRE_FALSE(ok);
      CHECK(ok.error().offset == c.offset);
      CHECK_MESSAGE(ok.error().message.find(c.words) != std::string::npos, ok.error().text());
    }
  }
}

TEST_CASE("tar: cut short anywhere inside an entry is an error, between entries it is an end") {
  TarBuilder tar;
  tar.pax({{"mtime", "1.5"}})
      .file("a", std::string(700, 'x'))
      .gnu_long(std::string(200, 'n'))
      .file("b", "y")
      .directory("d");
  std::size_t const entries_end = tar.text().size();
  tar.end();
  // Offsets where an entry is over: after a's data and padding, and so on.
  auto const boundary = [&](std::size_t n) {
    return n == 0 || n == 1024 + 512 + 1024 || n == entries_end - 512 || n >= entries_end;
  };
  for (std::size_t n = 0; n <= tar.text().size(); ++n) {
    TarRecorder r;
    auto const ok = read_tar(std::string_view(tar.text()).substr(0, n), r);
    bool const inside_zeroes = n > entries_end && n % 512 != 0 && n < tar.text().size();
    if (ok.ok() != (boundary(n) && !inside_zeroes)) {
      CAPTURE(n);
      CHECK(ok.ok() == (boundary(n) && !inside_zeroes));
    }
  }
}

TEST_CASE("tar: data that nobody wants can be skipped without being fed") {
  TarBuilder tar;
  tar.file("a", std::string(5000, 'x')).file("b", "y").end();
  auto const bytes = std::as_bytes(std::span{tar.text().data(), tar.text().size()});
  TarRecorder r;
  TarReader reader(r);
  while (!reader.ended()) {
    if (auto const n = reader.skippable(); n > 0) {
      REQUIRE(reader.skip(n));
    } else {
      REQUIRE(reader.feed(bytes.subspan(reader.offset(), 512)));
    }
  }
  REQUIRE(reader.finish());
  REQUIRE(r.seen.size() == 2);
  CHECK((r.seen[0].ended && r.seen[0].data.empty() && r.seen[1].entry.path == "b"));
}
