// SPDX-License-Identifier: Apache-2.0
// Whole imports into a store in memory: what a layer's tar says is what the layer's files are, and
// whatever goes wrong leaves the store as it was.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/store.h"
#include "format/records.h"
#include "importer/import.h"
#include "oci/sha256.h"
#include "tests/support/importing.h"
#include "tests/support/support.h"
#include "tests/support/tar_builder.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::importer;
using namespace lcfs::test;

namespace {

std::unique_ptr<Store> new_store(std::uint64_t size = 64ull << 20) {
  auto device = make_memory_device(size);
  REQUIRE(Store::format(*device, {}));
  auto store = Store::open(std::move(device), {});
  REQUIRE_MESSAGE(store, (store ? "" : store.error().text()));
  return *std::move(store);
}

// Every used block, so that "the store is as it was" can be compared.
std::string state_of(Store& store) {
  auto const s = store.space();
  CHECK(s.total == s.reserved + s.store_tree + s.layers + s.history + s.pending + s.free);
  std::size_t layers = 0, images = 0;
  CHECK(store.for_each_layer([&](auto const&) { return ++layers, true; }));
  CHECK(store.for_each_image([&](auto const&) { return ++images, true; }));
  return fmt::format("layers {} images {} blocks {} tree {}", layers, images, s.layers,
                     s.store_tree);
}

// Through a pipe that can't be seeked, in small pieces.
Result<ImportReport> import_pipe(Store& store, std::string const& bytes) {
  TempDir dir;
  auto const fifo = dir.file("fifo");
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  std::signal(SIGPIPE, SIG_IGN);  // the import may give up early
  std::thread writer([&] {
    int const fd = open(fifo.c_str(), O_WRONLY);
    for (std::size_t at = 0; at < bytes.size();) {
      auto const n = write(fd, bytes.data() + at, std::min<std::size_t>(1000, bytes.size() - at));
      if (n <= 0) break;
      at += static_cast<std::size_t>(n);
    }
    close(fd);
  });
  ImportOptions options;
  options.source = fifo;
  auto report = import_archive(store, options);
  writer.join();
  return report;
}

TestImage image_of(std::vector<TestLayer> layers) {
  TestImage image;
  image.layers = std::move(layers);
  return image;
}

// Path of a layer to its attributes.
Result<Attr> walk(Layer& layer, std::string_view path) {
  LCFS_TRY_ASSIGN(auto at, layer.getattr(layer.root()));
  while (!path.empty()) {
    auto const slash = std::min(path.find('/'), path.size());
    LCFS_TRY_ASSIGN(at, layer.lookup(at.inode, path.substr(0, slash)));
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  return at;
}

std::string read_all(Layer& layer, std::string_view path) {
  auto const attr = walk(layer, path);
  REQUIRE(attr);
  std::string data(attr->info.size, '?');
  auto const n =
      layer.read(attr->inode, 0, std::as_writable_bytes(std::span{data.data(), data.size()}));
  REQUIRE(n);
  CHECK(*n == data.size());
  return data;
}

bool exists(Layer& layer, std::string_view path) { return walk(layer, path).ok(); }

// Imports one image made of these tars and gives its top layer.
std::shared_ptr<Layer> import_tars(Store& store, std::vector<std::string> const& tars) {
  TestImage image;
  for (auto const& tar : tars) image.layers.push_back(gzip_layer(tar));
  auto const report = import_bytes(store, tar_of(oci_members({image})));
  REQUIRE_MESSAGE(report, (report ? "" : report.error().text()));
  auto const id = store.resolve_layer(*report->images[0].top_layer);
  REQUIRE(id);
  auto layer = store.layer(*id);
  REQUIRE(layer);
  return *std::move(layer);
}

std::string big_file(std::size_t size, std::uint32_t seed) {
  std::string data(size, '\0');
  for (std::size_t i = 0; i < size; ++i) {
    seed = seed * 1664525u + 1013904223u;
    data[i] = static_cast<char>(seed >> 24);
  }
  return data;
}

}  // namespace

TEST_CASE("import: every form of archive, as a file and through a pipe, gives the same files") {
  auto const big = big_file(3'000'000, 7);
  auto const base =
      TarBuilder().directory("d").file("d/big", big).file("d/small", "small").end().text();
  auto const top = TarBuilder().file("d/new", "new").file("d/.wh.small", "").end().text();
  for (auto const& image : {image_of({plain_layer(base), plain_layer(top)}),
                            image_of({gzip_layer(base), zstd_layer(top)})}) {
    for (auto const& members :
         {oci_members({image}), docker_members({image}), legacy_docker_members({image})}) {
      auto reversed = members;
      std::reverse(reversed.begin(), reversed.end());
      for (auto const& bytes : {tar_of(members), tar_of(reversed), gzip(tar_of(members))}) {
        for (auto const how : {0, 1}) {
          auto store = new_store();
          auto const report = how == 0 ? import_bytes(*store, bytes) : import_pipe(*store, bytes);
          REQUIRE_MESSAGE(report, (report ? "" : report.error().text()));
          REQUIRE(report->images.size() == 1);
          REQUIRE(report->images[0].layers.size() == 2);
          CHECK(report->images[0].layers[0].is_new);
          CHECK(report->images[0].layers[0].bytes == base.size());
          auto layer = store->layer(*store->resolve_layer("test"));
          REQUIRE(layer);
          CHECK(read_all(**layer, "d/big") == big);
          CHECK(read_all(**layer, "d/new") == "new");
          CHECK_FALSE(exists(**layer, "d/small"));
          CHECK(*store->image_document(*store->resolve_image("test"), BlobKind::kConfig) ==
                image.config());
          state_of(*store);
        }
      }
    }
  }
}

TEST_CASE("import: an image that is there already is not written again; a shared base is used") {
  auto store = new_store();
  auto const base = gzip_layer(TarBuilder().file("base", big_file(100'000, 1)).end().text());
  auto const a = image_of({base, gzip_layer(TarBuilder().file("a", "a").end().text())});
  REQUIRE(import_bytes(*store, tar_of(oci_members({a}))));
  auto const before = state_of(*store);
  auto const again = import_bytes(*store, tar_of(oci_members({a})));
  REQUIRE(again);
  CHECK_FALSE(again->images[0].layers[0].is_new);
  CHECK_FALSE(again->images[0].layers[1].is_new);
  CHECK(again->bytes_read == 0);
  CHECK(state_of(*store) == before);
  auto b = image_of({base, gzip_layer(TarBuilder().file("b", "b").end().text())});
  b.name = "b";
  auto const other = import_pipe(*store, tar_of(docker_members({b})));
  REQUIRE_MESSAGE(other, (other ? "" : other.error().text()));
  CHECK_FALSE(other->images[0].layers[0].is_new);
  CHECK(other->images[0].layers[1].is_new);
}

TEST_CASE("import: the same blob at two places of a chain is two layers, also from a pipe") {
  auto const empty = gzip_layer(TarBuilder().end().text());
  auto const image =
      image_of({empty, gzip_layer(TarBuilder().file("f", "x").end().text()), empty, empty});
  auto const docker = docker_members({image});
  for (auto const& bytes : {tar_of(oci_members({image})), tar_of(docker)}) {
    auto one = new_store(), two = new_store();
    auto const file = import_bytes(*one, bytes);
    REQUIRE_MESSAGE(file, (file ? "" : file.error().text()));
    CHECK(file->images[0].layers.size() == 4);
    auto const pipe = import_pipe(*two, bytes);
    REQUIRE_MESSAGE(pipe, (pipe ? "" : pipe.error().text()));
    CHECK(pipe->images[0].layers.size() == 4);
  }
}

TEST_CASE(
    "import: owners, modes, times, devices, links, xattrs and holes arrive as they were written") {
  TarBuilder tar;
  tar.pax({{"uid", "4294967294"},
           {"gid", "3000000000"},
           {"mtime", "-1.5"},
           {"SCHILY.xattr.user.empty", ""},
           {"SCHILY.xattr.security.capability", std::string("\1\0\0\2", 4)}});
  tar.member(TarBlock("f").mode(06755), "data");
  tar.hardlink("./h", "/f").symlink("s", std::string(100, 't'));
  tar.pax({{"linkpath", std::string(4095, 'l')}}).symlink("long", "");
  tar.block(TarBlock("null", '3').octal(329, 8, 1).octal(337, 8, 3)).block(TarBlock("pipe", '6'));
  tar.pax({{"GNU.sparse.major", "1"},
           {"GNU.sparse.minor", "0"},
           {"GNU.sparse.realsize", "10000000"},
           {"GNU.sparse.name", "sparse"}});
  std::string map = "1\n9000000\n3\n";
  map.resize(512, '\0');
  tar.file("x", map + "end");
  tar.pax({{"path", "deep/er/\xff\xfe" + std::string(250, 'n')}, {"mtime", "99999999999.5"}})
      .file("x", "y")
      .end();
  auto store = new_store();
  auto layer = import_tars(*store, {tar.text()});
  auto const f = walk(*layer, "f");
  REQUIRE(f);
  CHECK((f->info.mode == (S_IFREG | 06755) && f->info.uid == 4294967294 &&
         f->info.gid == 3000000000));
  CHECK(f->info.mtime == Timestamp{-2, 500'000'000});
  CHECK(f->info.nlink == 2);
  CHECK(walk(*layer, "h")->inode == f->inode);
  CHECK(*layer->getxattr(f->inode, "user.empty") == "");
  CHECK(*layer->getxattr(f->inode, "security.capability") == std::string("\1\0\0\2", 4));
  CHECK(*layer->readlink(walk(*layer, "s")->inode) == std::string(100, 't'));
  CHECK(layer->readlink(walk(*layer, "long")->inode)->size() == 4095);
  CHECK((walk(*layer, "null")->info.mode & S_IFMT) == S_IFCHR);
  CHECK(walk(*layer, "null")->info.rdev == (std::uint64_t{1} << 32 | 3));
  CHECK((walk(*layer, "pipe")->info.mode & S_IFMT) == S_IFIFO);
  auto const sparse = read_all(*layer, "sparse");
  CHECK(sparse.size() == 10'000'000);
  CHECK(sparse.substr(9'000'000, 4) == std::string("end\0", 4));
  CHECK(walk(*layer, "sparse")->info.blocks <= 2);
  auto const odd = walk(*layer, "deep/er/\xff\xfe" + std::string(250, 'n'));
  REQUIRE(odd);
  CHECK(odd->info.mtime == Timestamp{99'999'999'999, 500'000'000});
  CHECK(walk(*layer, "deep")->info.mode == (S_IFDIR | 0755));
}

TEST_CASE(
    "import: whiteouts act on layers below only, wherever they stand; aufs's own files are left "
    "out") {
  auto const base = TarBuilder()
                        .directory("d")
                        .file("d/a", "1")
                        .file("d/b", "1")
                        .directory("o")
                        .file("o/x", "1")
                        .file("k", "1")
                        .end();
  auto const top = TarBuilder()
                       .file("d/a", "2")
                       .file("d/.wh.a", "")
                       .file("o/y", "2")
                       .file("o/.wh..wh..opq", "")
                       .file(".wh.k", "ignored")
                       .directory(".wh..wh.plnk")
                       .file(".wh..wh.plnk/1.2", "x")
                       .file(".wh.never", "")
                       .end();
  auto store = new_store();
  auto layer = import_tars(*store, {base.text(), top.text()});
  CHECK(read_all(*layer, "d/a") == "2");
  CHECK(exists(*layer, "d/b"));
  CHECK_FALSE(exists(*layer, "o/x"));
  CHECK(exists(*layer, "o/y"));
  CHECK_FALSE(exists(*layer, "k"));
  CHECK_FALSE(exists(*layer, ".wh..wh.plnk"));
}

TEST_CASE(
    "import: each bad layer is refused in one line naming member and reason; the store is as it "
    "was") {
  auto const tar = [](std::function<void(TarBuilder&)> const& make) {
    TarBuilder t;
    make(t);
    return t.end().text();
  };
  auto const good = TarBuilder().file("f", big_file(600'000, 3)).end().text();
  auto broken_gzip = gzip_layer(good);
  broken_gzip.blob[broken_gzip.blob.size() / 2] ^= 0x55;
  auto broken_sum = gzip_layer(good);
  broken_sum.plain += "x";  // so that the config's diff_id is another one
  auto cut = gzip_layer(good);
  cut.blob.resize(cut.blob.size() - 5);
  struct {
    char const* name;
    TestLayer layer;
    char const* words;
  } const cases[] = {
      {"damaged gzip", broken_gzip, "gzip"},
      {"wrong diff_id", broken_sum, "but the config's diff_id is"},
      {"gzip cut short", cut, "gzip stream is cut short"},
      {"no tar", gzip_layer(std::string(2000, 'x')), "not a tar header"},
      {"tar cut short", gzip_layer(good.substr(0, 300'000)), "tar archive is cut short"},
      {"dotdot", gzip_layer(tar([](auto& t) { t.file("a/../../etc/passwd", "x"); })),
       "entry \"a/../../etc/passwd\""},
      {"NUL", gzip_layer(tar([](auto& t) {
         t.pax({{"path", std::string("a\0b", 3)}}).file("f", "");
       })),
       "NUL"},
      {"link to nothing", gzip_layer(tar([](auto& t) { t.hardlink("h", "nowhere"); })), "h"},
      {"whiteout of ..", gzip_layer(tar([](auto& t) { t.file("x/.wh...", ""); })),
       "entry \"x/.wh...\""},
      {"long name", gzip_layer(tar([](auto& t) {
         t.pax({{"path", std::string(256, 'n')}}).file("f", "");
       })),
       "entry \"nnn"},
      {"xattr too long", gzip_layer(tar([](auto& t) {
         t.pax({{"SCHILY.xattr.user.x", std::string(65537, 'v')}}).file("f", "");
       })),
       "65537 bytes"},
      {"xz", TestLayer{good, xz_magic()}, "xz"},
  };
  auto const fine = gzip_layer(TarBuilder().file("base", big_file(300'000, 9)).end().text());
  auto store = new_store();
  auto const before = state_of(*store);
  for (auto const& c : cases) {
    CAPTURE(c.name);
    auto const image = image_of({fine, c.layer, fine});
    for (int const how : {0, 1}) {
      auto const bytes = tar_of(oci_members({image}));
      auto const r = how == 0 ? import_bytes(*store, bytes) : import_pipe(*store, bytes);
      REQUIRE_FALSE(r);
      auto const text = r.error().text();
      CHECK_MESSAGE(text.find(c.words) != std::string::npos, text);
      CHECK_MESSAGE(text.find("blobs/sha256/" + sha256_hex(c.layer.blob)) != std::string::npos,
                    text);
      CHECK(text.find('\n') == std::string::npos);
      CHECK(state_of(*store) == before);
    }
  }
}

TEST_CASE("import: missing and changed blobs are named") {
  auto const image = image_of({gzip_layer(TarBuilder().file("f", "x").end().text())});
  auto const member = "blobs/sha256/" + sha256_hex(image.layers[0].blob);
  auto const other = gzip(TarBuilder().file("f", "y").end().text());
  struct {
    std::string blob;
    char const* words;
  } const cases[] = {{"", "layer is not in the archive"},
                     {image.layers[0].blob + std::string(1, '\0'), "its descriptor says"},
                     {other.substr(0, image.layers[0].blob.size()), "its descriptor says"}};
  for (auto const& c : cases) {
    auto members = oci_members({image});
    if (c.blob.empty()) {
      std::erase_if(members, [&](auto const& m) { return m.first == member; });
    } else {
      set_member(members, member, c.blob);
    }
    for (int const how : {0, 1}) {
      auto store = new_store();
      auto const r =
          how == 0 ? import_bytes(*store, tar_of(members)) : import_pipe(*store, tar_of(members));
      REQUIRE_FALSE(r);
      CHECK(r.error().path.ends_with(": " + member));
      CHECK_MESSAGE(r.error().message.find(c.words) != std::string::npos, r.error().text());
    }
  }
}

TEST_CASE(
    "import: a store that has the layers refuses the same blobs of another length, and needs none "
    "of them") {
  auto const image = image_of({gzip_layer(TarBuilder().file("f", "x").end().text()),
                               gzip_layer(TarBuilder().file("g", "y").end().text())});
  auto store = new_store();
  REQUIRE(import_bytes(*store, tar_of(oci_members({image}))));
  for (auto const& layer : image.layers) {
    auto const member = "blobs/sha256/" + sha256_hex(layer.blob);
    for (int const how : {0, 1}) {
      auto members = oci_members({image});
      set_member(members, member, layer.blob + "\1");
      auto const r =
          how == 0 ? import_bytes(*store, tar_of(members)) : import_pipe(*store, tar_of(members));
      REQUIRE_FALSE(r);
      CHECK(r.error().path.ends_with(": " + member));
      CHECK_MESSAGE(r.error().message.find("its descriptor says") != std::string::npos,
                    r.error().text());
      std::erase_if(members, [&](auto const& m) { return m.first == member; });
      auto const without =
          how == 0 ? import_bytes(*store, tar_of(members)) : import_pipe(*store, tar_of(members));
      CHECK(static_cast<bool>(without));
    }
  }
}

TEST_CASE("import: an archive cut short at any byte is refused, or all that counts was there") {
  auto const image = image_of({plain_layer(TarBuilder().file("f", "some data").end().text()),
                               gzip_layer(TarBuilder().file("g", "more data").end().text())});
  for (auto const& members : {oci_members({image}), docker_members({image})}) {
    auto const bytes = tar_of(members);
    auto store = new_store();
    auto const empty = state_of(*store);
    for (std::size_t n = 0; n <= bytes.size(); n += n + 600 < bytes.size() ? 97 : 1) {
      auto const r = n % 2 == 0 ? import_bytes(*store, bytes.substr(0, n))
                                : import_pipe(*store, bytes.substr(0, n));
      if (!r) {
        CHECK(state_of(*store) == empty);
        continue;
      }
      CHECK(r->images[0].layers.size() == 2);
      CHECK(store->remove_image(*store->resolve_image("test"), ""));
      store = new_store();
    }
  }
}

TEST_CASE("import: a full store, a stop and a bomb end in good order") {
  auto store = new_store(17ull << 20);
  auto const before = state_of(*store);
  auto const image =
      image_of({gzip_layer(TarBuilder().file("f", big_file(40'000'000, 5)).end().text()),
                gzip_layer(TarBuilder().file("g", "x").end().text())});
  auto const bytes = tar_of(oci_members({image}));
  for (int const how : {0, 1}) {
    auto const full = how == 0 ? import_bytes(*store, bytes) : import_pipe(*store, bytes);
    REQUIRE_FALSE(full);
    CHECK_MESSAGE(full.error().code == Errc::kNoSpace, full.error().text());
    CHECK(state_of(*store) == before);
  }
  std::atomic<bool> stop{true};
  ImportOptions options;
  options.stop = &stop;
  auto const stopped = import_bytes(*store, bytes, options);
  REQUIRE_FALSE(stopped);
  CHECK(stopped.error().code == Errc::kInterrupted);
  CHECK(state_of(*store) == before);
  // Zeroes take no space, however many.
  auto const zeroes =
      image_of({gzip_layer(TarBuilder().file("z", std::string(100'000'000, '\0')).end().text())});
  auto const r = import_bytes(*store, tar_of(oci_members({zeroes})));
  REQUIRE_MESSAGE(r, (r ? "" : r.error().text()));
}

TEST_CASE("import: a thousand layers") {
  TestImage image;
  for (int i = 0; i < 1000; ++i)
    image.layers.push_back(plain_layer(TarBuilder().file(fmt::format("f{}", i), "x").end().text()));
  auto const bytes = tar_of(docker_members({image}));
  auto store = new_store(256ull << 20);
  auto const r = import_bytes(*store, bytes);
  REQUIRE_MESSAGE(r, (r ? "" : r.error().text()));
  auto layer = store->layer(*store->resolve_layer(*r->images[0].top_layer));
  REQUIRE(layer);
  CHECK((exists(**layer, "f0") && exists(**layer, "f999")));
}
