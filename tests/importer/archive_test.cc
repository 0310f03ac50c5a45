// SPDX-License-Identifier: Apache-2.0
// What archives hold, in all their forms: no layer is read here.
#include "importer/archive.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <thread>

#include "format/records.h"
#include "importer/import.h"
#include "tests/support/support.h"
#include "tests/support/tar_builder.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::importer;
using namespace lcfs::test;

namespace {

TestImage image_named(std::string name, std::string content = "x",
                      std::string architecture = "amd64") {
  TestImage image;
  image.name = std::move(name);
  image.architecture = std::move(architecture);
  image.layers = {gzip_layer(TarBuilder().file("base", "b").end().text()),
                  plain_layer(TarBuilder().file("f", content).end().text())};
  return image;
}

Result<std::vector<ListedImage>> list(std::string const& bytes, std::vector<std::string> names = {},
                                      std::string platform = {}) {
  TempDir dir;
  write_file(dir.file("a.tar"), bytes);
  ImportOptions options;
  options.source = dir.file("a.tar");
  options.names = std::move(names);
  options.platform = std::move(platform);
  return list_archive(options);
}

std::string message_of(Result<std::vector<ListedImage>> const& r) {
  REQUIRE_FALSE(r);
  // The archive's path is the test's own; what follows counts.
  auto const text = r.error().text();
  auto const at = text.find("a.tar: ");
  return at == std::string::npos ? text : text.substr(at + 7);
}

std::string index_with(std::string const& descriptor) { return index_of({descriptor}); }

std::string descriptor_of(std::string_view media_type, std::string_view bytes,
                          std::string_view extra = "") {
  return fmt::format(R"({{"mediaType":"{}","digest":"sha256:{}","size":{}{}}})", media_type,
                     sha256_hex(bytes), bytes.size(), extra);
}

constexpr char const* kIndexType = "application/vnd.oci.image.index.v1+json";

}  // namespace

TEST_CASE("archive: every form lists the same image") {
  auto const image = image_named("localhost/x:1");
  auto const id = sha256_hex(image.config());
  auto const check = [&](Result<std::vector<ListedImage>> const& r) {
    REQUIRE_MESSAGE(r, (r ? "" : r.error().text()));
    REQUIRE(r->size() == 1);
    CHECK((*r)[0].names == std::vector<std::string>{"localhost/x:1"});
    CHECK(digest_hex((*r)[0].config_digest) == id);
    CHECK((*r)[0].layers == 2);
    CHECK((*r)[0].platform == "linux/amd64");
  };
  auto const oci = oci_members({image}), docker = docker_members({image}),
             legacy = legacy_docker_members({image});
  for (auto const& members : {oci, docker, legacy}) {
    check(list(tar_of(members)));
    check(list(gzip(tar_of(members))));
    check(list(zstd(tar_of(members))));
    TempDir dir;
    write_directory(dir.file("layout"), members);
    ImportOptions options;
    options.source = dir.file("layout");
    check(list_archive(options));
  }
}

TEST_CASE("archive: links between members are followed inside the archive, and no further") {
  auto const image = image_named("x:1");
  auto const config = image.config();
  TarBuilder tar;
  tar.file("real/a.tar", image.layers[0].blob)
      .file("real/b.tar", image.layers[1].blob)
      .file("config", config);
  tar.symlink("one/layer.tar", "../real/a.tar")
      .symlink("./two.tar", "/hard.tar")
      .hardlink("hard.tar", "./real/b.tar");
  tar.symlink("round", "round2")
      .symlink("round2", "round")
      .symlink("out", "../../../../etc/passwd");
  auto const with = [&](char const* second) {
    TarBuilder all = tar;
    return all
        .file("manifest.json",
              fmt::format(
                  R"([{{"Config":"config","RepoTags":["x:1"],"Layers":["one/layer.tar","{}"]}}])",
                  second))
        .end()
        .text();
  };
  auto const good = list(with("two.tar"));
  REQUIRE_MESSAGE(good, (good ? "" : good.error().text()));
  CHECK((*good)[0].bytes == image.layers[0].blob.size() + image.layers[1].blob.size());
  TarBuilder circle = tar;
  circle.file("manifest.json", R"([{"Config":"round","Layers":[]}])").end();
  CHECK(message_of(list(circle.text())) == "round: is not in the archive");
  TarBuilder outside = tar;
  outside.file("manifest.json", R"([{"Config":"out","Layers":[]}])").end();
  CHECK(message_of(list(outside.text())) == "out: is not in the archive");
}

TEST_CASE("archive: an archive with both manifests is read once, with the names of both") {
  auto image = image_named("");
  image.name = "latest";
  auto members = oci_members({image});
  std::string const config = "blobs/sha256/" + sha256_hex(image.config());
  members.emplace_back(
      "manifest.json",
      fmt::format(R"([{{"Config":"{}","RepoTags":["app:latest","app:2"],"Layers":[]}}])", config));
  auto const r = list(tar_of(members));
  REQUIRE(r);
  REQUIRE(r->size() == 1);
  CHECK((*r)[0].names == std::vector<std::string>{"latest", "app:latest", "app:2"});
}

TEST_CASE("archive: several images, and those that were asked for") {
  auto const a = image_named("docker.io/library/a:1", "a"), b = image_named("b", "b");
  auto b2 = b;
  b2.name = "b:other";
  for (auto const& bytes : {tar_of(oci_members({a, b, b2})), tar_of(docker_members({a, b, b2}))}) {
    auto const all = list(bytes);
    REQUIRE(all);
    REQUIRE(all->size() == 2);
    CHECK((*all)[1].names == std::vector<std::string>{"b", "b:other"});
    auto const one = list(bytes, {"a:1"});
    REQUIRE(one);
    REQUIRE(one->size() == 1);
    CHECK((*one)[0].names[0] == "docker.io/library/a:1");
    CHECK(message_of(list(bytes, {"c"})) ==
          "no image \"c\"; the archive has: b, b:other, docker.io/library/a:1");
    CHECK(list(bytes, {"a:1", "c"}).error().code == Errc::kNotFound);
  }
}

TEST_CASE(
    "archive: of an image for several platforms the host's or the wanted one is taken; "
    "attestations are none") {
  auto const intel = image_named("", "i", "amd64"), arm = image_named("", "a", "arm64"),
             ibm = image_named("", "s", "s390x");
  auto const nested =
      index_of({arm.descriptor(true), intel.descriptor(true), ibm.descriptor(true),
                descriptor_of("application/vnd.oci.image.manifest.v1+json", "{}",
                              R"(,"platform":{"os":"unknown","architecture":"unknown"})")});
  Members members;
  for (auto const* image : {&intel, &arm, &ibm}) {
    for (auto const& blob : image->blobs()) set_member(members, blob.first, blob.second);
  }
  set_member(members, "blobs/sha256/" + sha256_hex(nested), nested);
  auto with_root = members;
  set_member(with_root, "index.json", index_with(descriptor_of(kIndexType, nested)));
  auto flat = members;
  set_member(flat, "index.json",
             index_of({arm.descriptor(true), intel.descriptor(true), ibm.descriptor(true)}));
  for (auto const& bytes : {tar_of(with_root), tar_of(flat)}) {
    auto const here = list(bytes);
    REQUIRE_MESSAGE(here, (here ? "" : here.error().text()));
    REQUIRE(here->size() == 1);
    auto const arm_only = list(bytes, {}, "linux/arm64");
    REQUIRE(arm_only);
    CHECK((*arm_only)[0].platform == "linux/arm64");
    CHECK(message_of(list(bytes, {}, "linux/riscv64")) ==
          "no image for platform linux/riscv64; the archive has: linux/amd64, linux/arm64, "
          "linux/s390x");
  }
  // Only one of them is really there: that one, whatever it is for.
  auto partial = Members{};
  for (auto const& blob : ibm.blobs()) set_member(partial, blob.first, blob.second);
  set_member(partial, "blobs/sha256/" + sha256_hex(nested), nested);
  set_member(partial, "index.json", index_with(descriptor_of(kIndexType, nested)));
  auto const only = list(tar_of(partial));
  REQUIRE(only);
  CHECK((*only)[0].platform == "linux/s390x");
  CHECK(message_of(list(tar_of(docker_members({ibm})), {}, "linux/amd64")) ==
        "no image for platform linux/amd64; the archive has: linux/s390x");
  CHECK(list(tar_of(flat), {}, "linux").error().code == Errc::kInvalid);
}

TEST_CASE("archive: indexes nested too deep, or in great number, are refused") {
  auto const image = image_named("");
  Members members;
  for (auto const& blob : image.blobs()) set_member(members, blob.first, blob.second);
  std::string index = index_of({image.descriptor()});
  for (int depth = 1; depth <= 10; ++depth) {
    set_member(members, "index.json", index);
    auto const r = list(tar_of(members));
    CAPTURE(depth);
    CHECK(r.ok() == (depth <= 9));
    if (!r) CHECK(r.error().message.find("nested more than 8 levels deep") != std::string::npos);
    set_member(members, "blobs/sha256/" + sha256_hex(index), index);
    index = index_with(descriptor_of(kIndexType, index));
  }
}

TEST_CASE(
    "archive: each wrong document is refused in one line that names archive, member and reason") {
  auto const image = image_named("x");
  auto const manifest = "blobs/sha256/" + sha256_hex(image.manifest());
  auto const config = "blobs/sha256/" + sha256_hex(image.config());
  auto const changed = [&](std::string const& member, std::string bytes) {
    auto members = oci_members({image});
    set_member(members, member, std::move(bytes));
    return tar_of(members);
  };
  auto const without = [&](std::string const& member) {
    auto members = oci_members({image});
    std::erase_if(members, [&](auto const& m) { return m.first == member; });
    return tar_of(members);
  };
  std::string wrong = image.manifest();
  wrong[wrong.size() - 1] = ' ';
  auto fewer = image;
  auto const helm =
      R"({"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"sha256:)" +
      sha256_hex("") + R"(","size":0},"layers":[]})";
  auto members = oci_members({});
  set_member(members, "blobs/sha256/" + sha256_hex(helm), helm);
  set_member(members, "index.json",
             index_with(descriptor_of("application/vnd.oci.image.manifest.v1+json", helm)));
  auto encrypted = image;
  encrypted.layers[0].media_type += "+encrypted";

  struct {
    std::string bytes;
    std::string start, words;
  } const cases[] = {
      {"", "is empty", ""},
      {"short", "not a docker-archive, OCI archive or OCI layout (", "only 5 bytes"},
      {std::string(4096, 'x'), "not a docker-archive", "not a tar file"},
      {gzip("no tar"), "not a docker-archive", "only 6 bytes"},
      {xz_magic(), "not a docker-archive", "xz compression is not supported"},
      {TarBuilder().file("f", "x").end().text(), "not a docker-archive",
       "neither index.json nor manifest.json"},
      {TarBuilder().end().text(), "not a docker-archive", "neither"},
      {TarBuilder().file("repositories", "{}").end().text(),
       "not an image that lcfs reads: ", "before 1.10"},
      {changed("index.json", "{"), "index.json: ", "not valid JSON"},
      {changed("index.json", R"({"manifests":7})"),
       "index.json: ", "$.manifests must be an array, not number"},
      {changed("oci-layout", R"({"imageLayoutVersion":"9"})"),
       "oci-layout: ", "OCI layout version \"9\""},
      {changed(manifest, wrong), manifest + ": ", "its descriptor says sha256:"},
      {changed(manifest, "{}"), manifest + ": ", "has 2 bytes, but its descriptor says"},
      {without(manifest), manifest + ": ", "is not in the archive"},
      {without(config), config + ": ", "is not in the archive"},
      {tar_of(members), "blobs/sha256/" + sha256_hex(helm), "not an image but an artifact"},
      {tar_of(oci_members({encrypted})), "blobs/sha256/" + sha256_hex(encrypted.layers[0].blob),
       "encrypted layer"},
      {TarBuilder().file("manifest.json", "[]").end().text(), "contains no image", ""},
      {TarBuilder().file("manifest.json", R"([{"Config":"c","Layers":[]}])").end().text(),
       "c: is not in the archive", ""},
      {TarBuilder()
           .file("manifest.json", R"([{"Config":"c","Layers":["l"]}])")
           .file("c", R"({"rootfs":{"diff_ids":[]}})")
           .end()
           .text(),
       "manifest.json: ", "lists 1 layers, but its config"},
      {TarBuilder()
           .file("manifest.json",
                 R"([{"Config":")" + std::string(64, 'a') + R"(.json","Layers":[]}])")
           .file(std::string(64, 'a') + ".json", "{}")
           .end()
           .text(),
       std::string(64, 'a') + ".json: ", "does not match its name"},
  };
  for (auto const& c : cases) {
    auto const text = message_of(list(c.bytes));
    CAPTURE(c.words);
    CHECK_MESSAGE(text.starts_with(c.start), text);
    CHECK_MESSAGE(text.find(c.words) != std::string::npos, text);
    CHECK(text.find('\n') == std::string::npos);
  }
  ImportOptions missing;
  missing.source = "/nonexistent/a.tar";
  CHECK(list_archive(missing).error().code == Errc::kNotFound);
}

TEST_CASE("archive: cut short anywhere before its end marks, an archive is refused") {
  auto const image = image_named("x");
  for (auto const& members : {oci_members({image}), docker_members({image})}) {
    auto const bytes = tar_of(members);
    for (std::size_t n = 0; n < bytes.size() - 1024; n += 61) {
      auto const r = list(bytes.substr(0, n));
      // The last members may be ones that nobody needs.
      if (r) CHECK((*r)[0].layers == 2);
    }
  }
}

TEST_CASE("archive: names of members are compared without ./ and what .. undoes") {
  CHECK(MemberTable::normalize("./a//b/./c/../d/") == "a/b/d");
  CHECK(MemberTable::normalize("/../x") == "x");
  CHECK(MemberTable::normalize("") == "");
}
