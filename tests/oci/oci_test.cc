// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <string>

#include "format/records.h"
#include "importer/plan.h"
#include "oci/image_name.h"
#include "oci/manifest.h"
#include "oci/platform.h"
#include "oci/quote.h"
#include "oci/sha256.h"
#include "tests/support/tar_builder.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::importer;
using namespace lcfs::test;

namespace {

constexpr char const* kHex = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

std::string descriptor(std::string const& extra) {
  return std::string(R"({"digest":"sha256:)") + kHex + R"(","size":3)" + extra + "}";
}

}  // namespace

TEST_CASE("oci: an index gives digests, sizes, platforms, and the fuller of two names") {
  auto const index = oci::parse_index(
      R"({"manifests":[)" +
      descriptor(R"(,"platform":{"os":"linux","architecture":"arm64","variant":"v8"})") + "," +
      descriptor(R"(,"annotations":{"org.opencontainers.image.ref.name":"tag"})") + "," +
      descriptor(
          R"(,"annotations":{"org.opencontainers.image.ref.name":"1","io.containerd.image.name":"docker.io/library/x:1"})") +
      "," + descriptor(R"(,"annotations":{"vnd.docker.reference.type":"attestation-manifest"})") +
      "]}");
  REQUIRE(index);
  REQUIRE(index->size() == 4);
  CHECK(digest_hex((*index)[0].digest) == kHex);
  CHECK(oci::platform_text(*(*index)[0].platform) == "linux/arm64/v8");
  CHECK((*index)[1].names == std::vector<std::string>{"tag"});
  CHECK((*index)[2].names == std::vector<std::string>{"docker.io/library/x:1"});
  CHECK((*index)[3].attestation);
}

TEST_CASE("oci: documents of the wrong shape are refused, with the place that is wrong") {
  struct Case {
    char const* name;
    std::string text;
    Errc code;
    char const* words;
  };
  auto const manifest = [](std::string const& layer) {
    return R"({"config":)" + descriptor("") + R"(,"layers":[)" + layer + "]}";
  };
  Case const manifests[] = {
      {"not JSON", "{\"a\":", Errc::kCorrupt, "not valid JSON"},
      {"empty", "", Errc::kCorrupt, "not valid JSON"},
      {"two documents", "{}{}", Errc::kCorrupt, "not valid JSON"},
      {"bad UTF-8", "{\"a\":\"\xff\"}", Errc::kCorrupt, "not valid JSON"},
      {"array", "[]", Errc::kCorrupt, "$ must be an object, not array"},
      {"no config", "{}", Errc::kCorrupt, "$.config is missing"},
      {"config number", R"({"config":3})", Errc::kCorrupt,
       "$.config must be an object, not number"},
      {"layers object", R"({"config":)" + descriptor("") + R"(,"layers":{}})", Errc::kCorrupt,
       "$.layers must be an array, not object"},
      {"layer string", manifest("\"x\""), Errc::kCorrupt,
       "$.layers[0] must be an object, not string"},
      {"no digest", manifest("{\"size\":1}"), Errc::kCorrupt, "$.layers[0].digest is missing"},
      {"short digest", manifest(R"({"digest":"sha256:12","size":1})"), Errc::kCorrupt,
       "$.layers[0].digest: \"sha256:12\" is not a digest"},
      {"path digest", manifest(R"({"digest":"../../etc/passwd","size":1})"), Errc::kCorrupt,
       "is not a digest"},
      {"sha512", manifest(R"({"digest":"sha512:12","size":1})"), Errc::kUnsupported,
       "sha512 is not supported"},
      {"negative size", manifest(std::string(R"({"digest":"sha256:)") + kHex + R"(","size":-1})"),
       Errc::kCorrupt, "$.layers[0].size must be a whole number that is not negative"},
      {"huge size", manifest(std::string(R"({"digest":"sha256:)") + kHex + R"(","size":1e30})"),
       Errc::kCorrupt, "$.layers[0].size must be a whole number that is not negative"},
      {"schema 1", R"({"schemaVersion":1,"fsLayers":[]})", Errc::kUnsupported, "schema 1"},
      {"deep", std::string(100'000, '['), Errc::kUnsupported, "nested more than 64"},
      {"deep objects",
       [] {
         std::string s;
         for (int i = 0; i < 70; ++i) s += "{\"a\":";
         return s;
       }(),
       Errc::kUnsupported, "nested more than 64"},
      {"too many layers",
       [&] {
         std::string s = "1";
         for (std::size_t i = 0; i < kMaxLayers; ++i) s += ",1";
         return manifest(s);
       }(),
       Errc::kUnsupported, "$.layers has 16385 entries"},
      {"too long", std::string((16u << 20) + 1, ' '), Errc::kUnsupported,
       "JSON document of 16777217 bytes"},
  };
  for (auto const& c : manifests) {
    CAPTURE(c.name);
    auto const got = oci::parse_manifest(c.text);
    REQUIRE_FALSE(got);
    CHECK(got.error().code == c.code);
    CHECK_MESSAGE(got.error().message.find(c.words) != std::string::npos, got.error().message);
  }
  CHECK(oci::parse_config(R"({"rootfs":{"diff_ids":[7]}})").error().message ==
        "$.rootfs.diff_ids[0] must be a string, not number");
  CHECK(oci::parse_config("{}").error().message == "$.rootfs is missing");
  CHECK(oci::parse_config(R"({"rootfs":{"type":"rar"}})").error().message ==
        "$.rootfs.type is \"rar\", not \"layers\"");
  CHECK(oci::parse_docker_manifest(R"([{"Config":"c","Layers":[1]}])").error().message ==
        "$[0].Layers[0] must be a string, not number");
  CHECK(oci::parse_docker_manifest(R"({"schemaVersion":2})").error().code == Errc::kUnsupported);
  CHECK(oci::parse_docker_manifest(R"([{"Config":"c","RepoTags":null,"Layers":null}])"));
  CHECK(oci::check_oci_layout(R"({"imageLayoutVersion":"2.0.0"})").error().code ==
        Errc::kUnsupported);
}

TEST_CASE("oci: media types of images are taken, all others refused by name") {
  CHECK(oci::check_layer_type("application/vnd.oci.image.layer.v1.tar+zstd"));
  CHECK(oci::check_layer_type("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"));
  CHECK(oci::check_layer_type(""));
  CHECK(oci::check_layer_type("application/vnd.oci.image.layer.v1.tar+gzip+encrypted")
            .error()
            .message.find("encrypted layer") == 0);
  CHECK(oci::check_layer_type("application/vnd.in-toto+json")
            .error()
            .message.find("vnd.in-toto+json") != std::string::npos);
  CHECK(oci::check_config_type("application/vnd.cncf.helm.config.v1+json")
            .error()
            .message.find("artifact") != std::string::npos);
  CHECK(oci::document_kind("application/vnd.docker.distribution.manifest.v1+prettyjws", "{}")
            .error()
            .code == Errc::kUnsupported);
  CHECK(*oci::document_kind("", R"({"manifests":[]})") == oci::DocumentKind::kIndex);
  CHECK(*oci::document_kind("", R"({"layers":[]})") == oci::DocumentKind::kManifest);
}

TEST_CASE("oci: chain ids are those of the specification") {
  // image-spec config.md: ChainID(A|B) = Digest(ChainID(A) + " " + DiffID(B)).
  Digest const a = oci::sha256("a"), b = oci::sha256("b");
  CHECK(oci::chain_id(nullptr, a) == a);
  CHECK(oci::chain_id(&a, b) == oci::sha256(digest_text(a) + " " + digest_text(b)));
  CHECK(digest_text(oci::sha256("abc")) ==
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_CASE("oci: a platform is chosen as its owner would") {
  auto const rank = [](char const* wanted, char const* offered) {
    return oci::platform_rank(*oci::parse_platform(wanted), *oci::parse_platform(offered));
  };
  CHECK(rank("linux/amd64", "linux/amd64") == 0);
  CHECK(rank("linux/amd64", "linux/arm64") < 0);
  CHECK(rank("linux/amd64", "windows/amd64") < 0);
  CHECK(rank("linux/arm64", "linux/arm64/v8") == 1);
  CHECK(rank("linux/amd64/v2", "linux/amd64/v3") < 0);
  CHECK(rank("linux/amd64", "linux/amd64/v3") > rank("linux/amd64", "linux/amd64"));
  CHECK(rank("linux/arm", "linux/arm/v7") >= 0);
  CHECK(rank("linux/arm/v7", "linux/arm/v5") > rank("linux/arm/v7", "linux/arm/v6"));
  CHECK(rank("linux/arm/v6", "linux/arm/v7") < 0);
  for (char const* bad : {"", "linux", "linux/", "/amd64", "a/b/c/d", "a//c"})
    CHECK_FALSE(oci::parse_platform(bad));
  CHECK(oci::host_platform().os == "linux");
}

TEST_CASE("oci: names mean the same image with and without registry and tag") {
  CHECK(oci::same_image_name("alpine", "docker.io/library/alpine:latest"));
  CHECK(oci::same_image_name("me/app:1", "docker.io/me/app:1"));
  CHECK(oci::same_image_name("localhost/x", "localhost/x:latest"));
  CHECK_FALSE(oci::same_image_name("alpine:3", "alpine"));
  CHECK_FALSE(oci::same_image_name("quay.io/x", "x"));
  CHECK(oci::same_image_name("host:5000/x", "host:5000/x:latest"));
}

TEST_CASE("names in messages stay on one line and are valid UTF-8") {
  CHECK(oci::printable("plain \xc3\xa9") == "plain \xc3\xa9");
  CHECK(oci::printable("a\nb\x1b[31m\xff\\") == "a\\x0ab\\x1b[31m\\xff\\x5c");
  CHECK(oci::printable("\xc2\x85\xed\xa0\x80") == "\\xc2\\x85\\xed\\xa0\\x80");
  CHECK(oci::printable(std::string(1000, 'x')).size() == 303);
}
