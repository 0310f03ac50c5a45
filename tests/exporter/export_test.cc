// SPDX-License-Identifier: Apache-2.0
// Exports: what comes out of a store is what went in, as far as is promised; and nothing of an
// export that fails stays.
#include "exporter/export.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "engine/store/store_impl.h"
#include "exporter/encoder.h"
#include "importer/import.h"
#include "tests/support/importing.h"
#include "tests/support/support.h"
#include "tests/support/tar_builder.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;
using exporter::Compress;
using exporter::ExportOptions;
using exporter::Format;
using exporter::Identical;

namespace {

std::string random_bytes(std::size_t size, std::uint32_t seed) {
  std::string s(size, '\0');
  for (auto& c : s) c = static_cast<char>((seed = seed * 1664525u + 1013904223u) >> 24);
  return s;
}

std::string words(std::size_t size) {
  std::string s;
  for (std::uint32_t i = 1; s.size() < size; i = i * 1664525u + 1013904223u)
    s += fmt::format("word{} ", i % 1000);
  s.resize(size);
  return s;
}

std::string base_tar() {
  TarBuilder tar;
  tar.directory("d/")
      .file("d/words", words(3000000))
      .file("d/noise", random_bytes(1500000, 1))
      .file("small", "s")
      .symlink("l", "small")
      .hardlink("h", "small");
  for (int i = 0; i < 300; ++i)
    tar.file(fmt::format("d/f{}", i), words(static_cast<std::size_t>(i) * 37));
  return tar.end().raw(std::string(9728, '\0')).text();
}

std::string top_tar() {
  return TarBuilder()
      .file("d/.wh.noise", "")
      .file("small", "new")
      .pax({{"comment", "c"}})
      .file("x", words(70000))
      .end()
      .text();
}

// As Python's gzip module makes it, with a name in its header.
TestLayer zlib_layer(std::string tar, int level) {
  auto layer = gzip_layer(tar);
  z_stream s{};
  REQUIRE(deflateInit2(&s, level, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string packed(deflateBound(&s, tar.size()) + 64, '\0');
  s.next_in = reinterpret_cast<Bytef*>(tar.data());
  s.avail_in = static_cast<uInt>(tar.size());
  s.next_out = reinterpret_cast<Bytef*>(packed.data());
  s.avail_out = static_cast<uInt>(packed.size());
  REQUIRE(deflate(&s, Z_FINISH) == Z_STREAM_END);
  packed.resize(s.total_out);
  deflateEnd(&s);
  auto const crc = static_cast<std::uint32_t>(
      crc32(0, reinterpret_cast<Bytef const*>(tar.data()), static_cast<uInt>(tar.size())));
  auto const size = static_cast<std::uint32_t>(tar.size());
  std::string tail;
  for (auto const word : {crc, size}) {
    for (unsigned i = 0; i < 32; i += 8) tail += static_cast<char>(word >> i & 0xff);
  }
  layer.blob = std::string("\x1f\x8b\x08\x08\x11\x22\x33\x44\x02\x03", 10) +
               std::string("layer.tar\0", 10) + packed + tail;
  return layer;
}

TestLayer libzstd_layer(std::string tar) {
  auto layer = zstd_layer(tar);
  layer.blob.resize(ZSTD_compressBound(tar.size()));
  layer.blob.resize(ZSTD_compress(layer.blob.data(), layer.blob.size(), tar.data(), tar.size(), 3));
  return layer;
}

void import_file(Store& store, std::string const& path) {
  importer::ImportOptions options;
  options.source = path;
  must(importer::import_archive(store, options));
}

Result<exporter::ExportReport> export_to(Store& store, std::string const& path,
                                         std::vector<std::string> names,
                                         Compress compress = Compress::kOriginal,
                                         Format format = Format::kOci) {
  ExportOptions options;
  options.names = std::move(names);
  options.path = path;
  options.compress = compress;
  options.format = format;
  options.threads = 2;
  return exporter::export_archive(store, options);
}

std::vector<Digest> diff_ids(Store& store, std::string const& name) {
  std::vector<Digest> all;
  for (auto const& layer : must(store.image_layers(must(store.resolve_image(name)))))
    all.push_back(layer.diff_id);
  return all;
}

std::string read_file(std::string const& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

struct Collect final : exporter::ByteSink {
  std::string text{};
  Status write(std::span<std::byte const> b) override {
    text.append(reinterpret_cast<char const*>(b.data()), b.size());
    return {};
  }
};

std::size_t files_in(std::string const& directory) {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator(directory), {}));
}

}  // namespace

TEST_CASE(
    "export: plain, zlib's and libzstd's blobs come out the same, and the manifest with them") {
  TempDir dir;
  for (int level = 1; level <= 9; ++level) {
    CAPTURE(level);
    TestStore store(64);
    TestImage image;
    image.layers = {zlib_layer(base_tar(), level), plain_layer(top_tar()),
                    libzstd_layer(top_tar())};
    must(import_bytes(*store, tar_of(oci_members({image}))));
    auto const report = must(export_to(*store, dir.file("out.tar"), {"test"}));
    REQUIRE(report.images.size() == 1);
    CHECK(digest_hex(report.images[0].config_digest) == sha256_hex(image.config()));
    CHECK(digest_hex(report.images[0].manifest_digest) == sha256_hex(image.manifest()));
    REQUIRE(report.images[0].layers.size() == 3);
    for (std::size_t i = 0; i < 3; ++i) {
      CHECK(report.images[0].layers[i].identical == Identical::kManifest);
      CHECK(digest_hex(report.images[0].layers[i].digest) == sha256_hex(image.layers[i].blob));
    }
    CHECK(read_file(dir.file("out.tar")).find(image.manifest()) != std::string::npos);
  }
}

TEST_CASE(
    "export: whatever the compression, the tars and the image's id are the same, and another store "
    "takes them") {
  TempDir dir;
  for (auto const format : {Format::kOci, Format::kDocker}) {
    for (auto const compress :
         {Compress::kOriginal, Compress::kGzip, Compress::kZstd, Compress::kNone}) {
      CAPTURE(static_cast<int>(compress));
      TestStore store(64);
      TestImage image;
      image.layers = {gzip_layer(base_tar()), zstd_layer(top_tar())};
      must(import_bytes(*store, tar_of(oci_members({image}))));
      auto const report = must(export_to(*store, dir.file("out.tar"), {"test"}, compress, format));
      CHECK(digest_hex(report.images[0].config_digest) == sha256_hex(image.config()));
      CHECK(digest_hex(report.images[0].layers[0].diff_id) == sha256_hex(base_tar()));
      TestStore other(64);
      import_file(*other, dir.file("out.tar"));
      CHECK(diff_ids(*other, "test") == diff_ids(*store, "test"));
      CHECK(must(other->image(must(other->resolve_image("test")))).info.config_digest ==
            report.images[0].config_digest);
    }
  }
}

TEST_CASE(
    "export: what we compressed ourselves is recognized, and the number of threads changes "
    "nothing") {
  TempDir dir;
  for (auto const compress : {Compress::kGzip, Compress::kZstd}) {
    TestStore store(64);
    must(import_layers(*store, {plain_layer(base_tar())}));
    std::string before;
    for (unsigned const threads : {1u, 2u, 5u}) {
      ExportOptions options;
      options.names = {"test"};
      options.path = dir.file("out.tar");
      options.compress = compress;
      options.threads = threads;
      must(exporter::export_archive(*store, options));
      auto const now = read_file(dir.file("out.tar"));
      CHECK((before.empty() || before == now));
      before = now;
    }
    TestStore other(64);
    import_file(*other, dir.file("out.tar"));
    auto const report = must(export_to(*other, dir.file("again.tar"), {"test"}));
    CHECK(report.images[0].layers[0].identical == Identical::kManifest);
    CHECK(read_file(dir.file("again.tar")) == before);
  }
}

TEST_CASE("export: into a pipe comes what a file gets") {
  TempDir dir;
  TestStore store(64);
  must(import_layers(*store, {gzip_layer(base_tar()), plain_layer(top_tar())}));
  for (auto const compress : {Compress::kOriginal, Compress::kZstd, Compress::kNone}) {
    must(export_to(*store, dir.file("out.tar"), {"test"}, compress));
    Collect pipe;
    ExportOptions options;
    options.names = {"test"};
    options.stream = &pipe;
    options.spool = dir.path().string();
    options.compress = compress;
    options.threads = 2;
    must(exporter::export_archive(*store, options));
    CHECK(pipe.text == read_file(dir.file("out.tar")));
  }
  CHECK(files_in(dir.path().string()) == 1);
}

TEST_CASE("export: several images share what they share, under the names they were asked by") {
  TempDir dir;
  TestStore store(64);
  must(import_layers(*store, {plain_layer(base_tar())}));
  TestImage second;
  second.layers = {plain_layer(base_tar()), plain_layer(top_tar())};
  second.name = "second";
  write_file(dir.file("b.tar"), tar_of(oci_members({second})));
  import_file(*store, dir.file("b.tar"));
  auto const report = must(export_to(*store, dir.file("out.tar"), {"test", "second"}));
  CHECK(report.images[0].layers[0].digest == report.images[1].layers[0].digest);
  CHECK(std::filesystem::file_size(dir.file("out.tar")) <
        base_tar().size() + top_tar().size() + 20000);
  TestStore other(64);
  import_file(*other, dir.file("out.tar"));
  CHECK(diff_ids(*other, "second") == diff_ids(*store, "second"));
  CHECK(diff_ids(*other, "test") == diff_ids(*store, "test"));
}

TEST_CASE(
    "export: a layer made here gets a new tar, the same each time, and goes out with all below "
    "it") {
  TempDir dir;
  TestStore store(64);
  must(import_layers(*store, {gzip_layer(base_tar())}));
  auto const parent = must(store->resolve_layer("test"));
  auto const id = must(store->create_layer("work", parent));
  auto const layer = must(store->layer(id));
  auto const root = layer->root();
  must(layer->unlink(root, "small"));
  auto const made = must(layer->create(root, "made", {S_IFREG | 0640, 7, 8, 0, {{"user.a", "b"}}}));
  auto const text = random_bytes(2500000, 9);
  must(layer->write(made.inode, 0, std::as_bytes(std::span(text))));
  must(layer->setattr(made.inode, {.mtime = Timestamp{1000, 5}}));
  auto const report = must(export_to(*store, dir.file("out.tar"), {"work"}));
  REQUIRE(report.images[0].layers.size() == 2);
  CHECK(report.images[0].layers[0].identical == Identical::kDiffId);
  CHECK(report.images[0].layers[1].identical == Identical::kContent);
  must(export_to(*store, dir.file("again.tar"), {"work"}));
  CHECK(read_file(dir.file("again.tar")) == read_file(dir.file("out.tar")));
  TestStore other(64);
  import_file(*other, dir.file("out.tar"));
  auto const there = must(other->layer(must(other->resolve_layer("work"))));
  CHECK_FALSE(there->lookup(there->root(), "small"));
  auto const seen = must(there->lookup(there->root(), "made"));
  CHECK(seen.info.mode == (S_IFREG | 0640u));
  CHECK(seen.info.mtime == Timestamp{1000, 5});
  CHECK(must(there->getxattr(seen.inode, "user.a")) == "b");
  std::string back(text.size(), '\0');
  CHECK(must(there->read(seen.inode, 0, std::as_writable_bytes(std::span(back)))) == text.size());
  CHECK(back == text);
}

TEST_CASE("export: a base made here goes out whole, hard links once") {
  TempDir dir;
  TestStore store(64);
  auto const layer = must(store->layer(must(store->create_layer("base", 0))));
  auto const d = must(layer->create(layer->root(), "d", {S_IFDIR | 0755}));
  auto const f = must(layer->create(d.inode, "f", {S_IFREG | 0644}));
  must(layer->write(f.inode, 0, std::as_bytes(std::span(std::string_view("linked")))));
  must(layer->link(f.inode, layer->root(), "a-link"));
  must(export_to(*store, dir.file("out.tar"), {"base"}, Compress::kNone));
  TestStore other(64);
  import_file(*other, dir.file("out.tar"));
  auto const there = must(other->layer(must(other->resolve_layer("base"))));
  auto const link = must(there->lookup(there->root(), "a-link"));
  CHECK(link.info.nlink == 2);
  CHECK(link.info.size == 6);
}

TEST_CASE("export: a directory gets a layout; one that holds something is left alone") {
  TempDir dir;
  TestStore store(64);
  must(import_layers(*store, {plain_layer(top_tar().substr(512))}));
  must(export_to(*store, dir.file("layout/"), {"test"}));
  TestStore other(64);
  import_file(*other, dir.file("layout"));
  CHECK(diff_ids(*other, "test") == diff_ids(*store, "test"));
  auto const again = export_to(*store, dir.file("layout/"), {"test"});
  REQUIRE_FALSE(again);
  CHECK(again.error().code == Errc::kExists);
  auto const docker =
      export_to(*store, dir.file("other/"), {"test"}, Compress::kNone, Format::kDocker);
  REQUIRE_FALSE(docker);
  CHECK(docker.error().code == Errc::kInvalid);
  CHECK(files_in(dir.path().string()) == 1);
}

TEST_CASE(
    "export: a block that changed ends it, with layer and path; what stood under the name stays") {
  TempDir dir;
  auto device = std::shared_ptr<Device>(make_memory_device(64u << 20));
  must(Store::format(*device, {}));
  std::uint64_t at = 0;
  {
    auto store = must(Store::open(std::make_unique<SharedDevice>(device), {}));
    must(import_layers(*store, {plain_layer(base_tar())}));
    auto const layer = must(store->layer(must(store->resolve_layer("test"))));
    auto const d = must(layer->lookup(layer->root(), "d"));
    at = must(layer->runs(must(layer->lookup(d.inode, "noise")).inode)).at(0).device_offset;
  }
  AlignedBuffer block(kBlockSize);
  must(device->read(at, block.span()));
  block.data()[7] ^= std::byte{0x10};
  must(device->write(at, block.span()));
  auto store = must(Store::open(std::make_unique<SharedDevice>(device), {}));
  write_file(dir.file("out.tar"), "before");
  for (auto const compress : {Compress::kOriginal, Compress::kGzip, Compress::kZstd}) {
    auto const done = export_to(*store, dir.file("out.tar"), {"test"}, compress);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == Errc::kCorrupt);
    CHECK(done.error().message.find("/d/noise") != std::string::npos);
    CHECK(done.error().offset == at);
    auto const made = export_to(*store, dir.file("new.tar"), {"test"}, compress);
    CHECK_FALSE(made);
    CHECK_FALSE(export_to(*store, dir.file("layout/"), {"test"}, compress));
  }
  CHECK(read_file(dir.file("out.tar")) == "before");
  CHECK(files_in(dir.path().string()) == 1);
}

TEST_CASE(
    "export: names that are not there, and places that can't be written to, are told; a stop ends "
    "it") {
  TempDir dir;
  TestStore store(64);
  must(import_layers(*store, {plain_layer(base_tar())}));
  CHECK(export_to(*store, dir.file("o.tar"), {"test", "nobody"}).error().code == Errc::kNotFound);
  auto const nowhere = export_to(*store, dir.file("no/such/o.tar"), {"test"});
  REQUIRE_FALSE(nowhere);
  CHECK(nowhere.error().sys == ENOENT);
  std::atomic<bool> stop{true};
  ExportOptions options;
  options.names = {"test"};
  options.path = dir.file("o.tar");
  options.stop = &stop;
  CHECK(exporter::export_archive(*store, options).error().code == Errc::kInterrupted);
  CHECK(files_in(dir.path().string()) == 0);
}
