// SPDX-License-Identifier: Apache-2.0
// Skeletons: a tar that was imported comes back byte for byte, whatever it is; damage is seen, and
// goes with the layer.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "engine/import/skeleton_stream.h"
#include "engine/store/store_impl.h"
#include "format/hash.h"
#include "importer/import.h"
#include "tests/support/importing.h"
#include "tests/support/mend.h"
#include "tests/support/skeleton_tar.h"
#include "tests/support/support.h"
#include "tests/support/tar_builder.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

std::vector<LayerInfo> layers_of(Store& store) {
  std::vector<LayerInfo> all;
  must(store.for_each_layer([&](LayerInfo const& info) { return all.push_back(info), true; }));
  return all;
}

std::string random_bytes(std::size_t size, std::uint32_t seed) {
  std::string s(size, '\0');
  for (auto& c : s) c = static_cast<char>((seed = seed * 1664525u + 1013904223u) >> 24);
  return s;
}

struct Case {
  char const* name;
  std::function<std::string()> tar;
};

std::string gnu_sparse() {
  TarBlock h("sparse", 'S');
  h.gnu().size(1024 + 7);
  h.octal(386, 12, 4096).octal(398, 12, 1024);
  h.octal(410, 12, 100000).octal(422, 12, 7);
  h.octal(483, 12, 200000);
  return TarBuilder().block(h).data(random_bytes(1031, 5)).file("next", "n").end().text();
}

Case const kCases[] = {
    {"nothing at all", [] { return std::string(); }},
    {"only the end", [] { return TarBuilder().end().text(); }},
    {"files, directories, links",
     [] {
       return TarBuilder()
           .directory("d/")
           .file("d/small", "hello")
           .file("d/large", random_bytes(300000, 1))
           .file("empty", "")
           .symlink("s", "d/small")
           .hardlink("h", "d/small")
           .file("d/zeroes", std::string(70000, '\0'))
           .end()
           .text();
     }},
    {"no end", [] { return TarBuilder().file("a", "a").text(); }},
    {"a single block of zeroes at the end",
     [] { return TarBuilder().file("a", "a").raw(std::string(512, '\0')).text(); }},
    {"garbage behind the end",
     [] {
       return TarBuilder()
           .file("a", "a")
           .end()
           .raw(random_bytes(1000001, 2))
           .raw(std::string(10240, '\0'))
           .text();
     }},
    {"padding that is not zero",
     [] {
       return TarBuilder()
           .block(TarBlock("a").size(3))
           .raw("abc" + random_bytes(509, 3))
           .file("b", "b")
           .end()
           .text();
     }},
    {"global and local pax headers",
     [] {
       return TarBuilder()
           .pax({{"comment", "all"}}, 'g')
           .pax({{"path", "long/" + std::string(200, 'n')}, {"mtime", "1.5"}})
           .file("short", "x")
           .pax({{"SCHILY.xattr.user.a", "v"}})
           .file("y", random_bytes(5000, 4))
           .end()
           .text();
     }},
    {"GNU long names",
     [] {
       return TarBuilder()
           .gnu_long(std::string(150, 'l') + "/" + std::string(150, 'm'))
           .file("cut", "long name")
           .gnu_long(std::string(150, 'k'), 'K')
           .symlink("link", "cut")
           .end()
           .text();
     }},
    {"an old GNU sparse file", gnu_sparse},
    {"a pax 1.0 sparse file",
     [] {
       std::string map = "2\n0\n512\n1048576\n100\n";
       map.resize(512, '\0');
       return TarBuilder()
           .pax({{"GNU.sparse.major", "1"},
                 {"GNU.sparse.minor", "0"},
                 {"GNU.sparse.name", "sp"},
                 {"GNU.sparse.realsize", "1048676"}})
           .member(TarBlock("GNUSparseFile.0/sp"), map + random_bytes(612, 6))
           .end()
           .text();
     }},
    {"a file twice, the first one large",
     [] {
       return TarBuilder()
           .file("f", random_bytes(2500000, 7))
           .file("other", "o")
           .file("f", "second")
           .end()
           .text();
     }},
    {"a small file twice",
     [] {
       return TarBuilder()
           .file("f", "first")
           .file("f", std::string(2000, '\0'))
           .file("f", "x")
           .end()
           .text();
     }},
    {"a directory replaced by a file",
     [] {
       return TarBuilder()
           .directory("d/")
           .file("d/a", random_bytes(9000, 8))
           .file("d/b", std::string(5000, '\0') + "b")
           .file("d", "now")
           .end()
           .text();
     }},
    {"a sparse file replaced",
     [] {
       return TarBuilder()
           .raw(gnu_sparse().substr(0, 512 + 1536))
           .file("sparse", "flat")
           .end()
           .text();
     }},
    {"a file replaced by a hard link",
     [] {
       return TarBuilder()
           .file("a", "first")
           .file("b", random_bytes(6000, 9))
           .hardlink("b", "a")
           .end()
           .text();
     }},
    {"whiteouts with bodies",
     [] {
       return TarBuilder()
           .file(".wh.gone", "why not")
           .file("d/.wh..wh..opq", "x")
           .file(".wh..wh.plnk/1", random_bytes(700, 10))
           .file("a", "a")
           .end()
           .text();
     }},
    {"a volume label, and a dump directory with data",
     [] {
       return TarBuilder()
           .member(TarBlock("label", 'V'), "v")
           .member(TarBlock("dd", 'D').gnu(), random_bytes(900, 11))
           .file("a", "a")
           .end()
           .text();
     }},
    {"v7 and base-256 headers",
     [] {
       return TarBuilder()
           .member(TarBlock("old").v7(), "old")
           .member(TarBlock("big").base256(136, 12, -5).gnu(), "big")
           .end()
           .text();
     }},
    {"thousands of entries",
     [] {
       TarBuilder tar;
       for (int i = 0; i < 6000; ++i)
         tar.file(fmt::format("dir{}/file{}", i % 50, i),
                  random_bytes(static_cast<std::size_t>(i) % 5000, static_cast<std::uint32_t>(i)));
       return tar.end().text();
     }},
};

}  // namespace

TEST_CASE("skeleton: every tar comes back byte for byte") {
  for (auto const& c : kCases) {
    CAPTURE(c.name);
    auto const tar = c.tar();
    for (auto const& make : {plain_layer, gzip_layer, zstd_layer}) {
      TestStore store(128);
      auto const report = import_layers(*store, {make(tar)});
      REQUIRE_MESSAGE(report, (report ? "" : report.error().text()));
      store.reopen();
      auto const layers = layers_of(*store);
      REQUIRE(layers.size() == 1);
      CHECK(layers[0].skeleton_blocks > 0);
      auto const again = test::tar_from_skeleton(*store, layers[0].id);
      REQUIRE_MESSAGE(again, (again ? "" : again.error().text()));
      CHECK(*again == tar);
    }
  }
}

TEST_CASE("skeleton: each layer of an image has its own, also where it changes what lies below") {
  TestStore store(64);
  std::string const one =
      TarBuilder().directory("d/").file("d/a", random_bytes(9000, 1)).file("b", "b").end().text();
  std::string const two = TarBuilder()
                              .file("d/.wh.a", "")
                              .hardlink("c", "b")
                              .file("d/new", random_bytes(5000, 2))
                              .end()
                              .text();
  std::string const three =
      TarBuilder().directory("d/").file("d/.wh..wh..opq", "").file("d/last", "l").end().text();
  must(import_layers(*store, {plain_layer(one), gzip_layer(two), zstd_layer(three)}));
  auto const layers = layers_of(*store);
  REQUIRE(layers.size() == 3);
  CHECK(must(test::tar_from_skeleton(*store, layers[0].id)) == one);
  CHECK(must(test::tar_from_skeleton(*store, layers[1].id)) == two);
  CHECK(must(test::tar_from_skeleton(*store, layers[2].id)) == three);
  // What it came in is remembered.
  auto const skeleton = must(Skeleton::open(*store, layers[1].id));
  auto const blob = gzip_layer(two).blob;
  CHECK(digest_hex(skeleton->blob().digest) == sha256_hex(blob));
  CHECK(skeleton->blob().size == blob.size());
  CHECK(skeleton->blob().compression == BlobCompression::kGzip);
  CHECK(skeleton->blob().head == blob.substr(0, kBlobHead));
  CHECK(must(Skeleton::open(*store, layers[0].id))->blob().compression == BlobCompression::kNone);
}

TEST_CASE("skeleton: its blocks are the layer's own, and go with it; a clone has none") {
  TestStore store(64);
  auto const report = must(import_layers(
      *store, {plain_layer(TarBuilder().file("a", random_bytes(9000, 1)).end().text())}));
  auto const layer = layers_of(*store).at(0);
  CHECK(sizes_of(layer).inherited == 0);
  auto const clone = must(store->create_layer("clone", layer.id));
  CHECK(must(store->layer_info(clone)).skeleton_blocks == 0);
  CHECK(must(Skeleton::open(*store, clone)) == nullptr);
  store.check();
  must(store->remove_layer(clone));
  // Whoever reads it goes on when it is removed.
  auto const skeleton = must(Skeleton::open(*store, layer.id));
  must(store->remove_image(must(store->resolve_image("test")), ""));
  CHECK(skeleton->next());
  store.check();
}

TEST_CASE("skeleton: a layer that is removed gives all its blocks back") {
  TestStore store(64);
  auto const before = store->space().layers;
  must(import_layers(
      *store,
      {plain_layer(TarBuilder().file("a", "a").end().raw(random_bytes(3000000, 1)).text())}));
  CHECK(layers_of(*store).at(0).skeleton_blocks > 700);  // the garbage does not compress
  must(store->remove_image(must(store->resolve_image("test")), ""));
  store.check();
  CHECK(store->space().layers == before);
}

TEST_CASE("skeleton: a block that changed is told by whoever reads it, and by fsck") {
  auto device = std::shared_ptr<Device>(make_memory_device(64u << 20));
  must(Store::format(*device, {}));
  Extent where{};
  {
    auto store = must(Store::open(std::make_unique<SharedDevice>(device), {}));
    must(import_layers(*store,
                       {plain_layer(TarBuilder().file("a", random_bytes(9000, 1)).end().text())}));
    auto& impl = inside(*store);
    ReadLock lock(impl.catalog.mutex());
    must(scan(impl.catalog.tree.read(), {0, 0, 0}, kMaxKey,
              [&](Key const& key, Bytes value) -> Result<bool> {
                if (key.kind == kSkeletonExtent)
                  where.start = must(parse_skeleton_extent(key, value, impl.space.total())).block;
                return true;
              }));
  }
  REQUIRE(where.start != 0);
  AlignedBuffer block(kBlockSize);
  must(device->read(where.start * kBlockSize, block.span()));
  block.data()[1] ^= std::byte{1};
  must(device->write(where.start * kBlockSize, block.span()));
  auto store = must(Store::open(std::make_unique<SharedDevice>(device), {}));
  auto const id = layers_of(*store).at(0).id;
  auto const read = test::tar_from_skeleton(*store, id);
  REQUIRE_FALSE(read);
  CHECK(read.error().code == Errc::kCorrupt);
  CHECK(read.error().message.find("data checksum of its tar's skeleton does not match") !=
        std::string::npos);
  CHECK(read.error().offset == where.start * kBlockSize);
  store.reset();
  auto const findings = fsck_findings(*device);
  CHECK(findings.find("skeleton of its tar at offset 0x0 has checksum") != std::string::npos);
  // Mending gives it up, and nothing else.
  auto const mended = mend(*device);
  REQUIRE(mended.ok);
  REQUIRE(mended.asked.size() == 1);
  CHECK(mended.asked[0].step == fsck::Step::kSkeleton);
  CHECK(fsck_findings(*device) == "");
  store = must(Store::open(std::make_unique<SharedDevice>(device), {}));
  auto const after = layers_of(*store).at(0);
  CHECK(after.skeleton_blocks == 0);
  CHECK(after.has_digests);
  CHECK(must(Skeleton::open(*store, id)) == nullptr);
  auto const layer = must(store->layer(id));
  CHECK(must(layer->lookup(layer->root(), "a")).info.size == 9000);
}

TEST_CASE("skeleton: mending something else leaves it as it is") {
  auto device = std::shared_ptr<Device>(make_memory_device(64u << 20));
  must(Store::format(*device, {}));
  std::string const tar = TarBuilder().file("a", random_bytes(9000, 1)).file("b", "b").end().text();
  std::uint64_t counter = 0;
  {
    auto store = must(Store::open(std::make_unique<SharedDevice>(device), {}));
    must(import_layers(*store, {plain_layer(tar)}));
    counter = kSlotBlock[store->superblock().slot] * kBlockSize;
  }
  // The superblock's layer_count is wrong, its checksum right.
  AlignedBuffer block(kBlockSize);
  must(device->read(counter, block.span()));
  Superblock sb{};
  std::memcpy(&sb, block.data(), sizeof sb);
  sb.layer_count.set(0);
  std::memcpy(block.data(), &sb, sizeof sb);
  sb.checksum.set(crc32c(block.span().subspan(0x0c, sizeof sb - 0x0c)));
  std::memcpy(block.data(), &sb, sizeof sb);
  must(device->write(counter, block.span()));
  CHECK(fsck_findings(*device).find("layer_count 0, but there are 1") != std::string::npos);
  REQUIRE(mend(*device).ok);
  CHECK(fsck_findings(*device) == "");
  auto store = must(Store::open(std::make_unique<SharedDevice>(device), {}));
  CHECK(must(test::tar_from_skeleton(*store, layers_of(*store).at(0).id)) == tar);
}

TEST_CASE(
    "skeleton: a stream from a stranger is refused where it breaks the rules, and no size in it is "
    "believed") {
  auto decode = [](std::string const& stream) {
    auto const packed = zstd(stream);
    bool given = false;
    SkeletonDecoder decoder([&]() -> Result<std::span<std::byte const>> {
      if (std::exchange(given, true)) return std::span<std::byte const>{};
      return std::as_bytes(std::span(packed));
    });
    std::string seen;
    for (;;) {
      auto const piece = decoder.next();
      if (!piece) return piece.error().message;
      if (piece->kind == SkeletonPiece::kEnd) return seen;
      seen += piece->kind == SkeletonPiece::kLiteral
                  ? fmt::format("literal {};", piece->bytes.size())
                  : fmt::format("body {} {} {};", piece->file, piece->offset, piece->length);
    }
  };
  auto const b = [](std::initializer_list<int> bytes) {
    std::string s;
    for (int const v : bytes) s += static_cast<char>(v);
    return s;
  };
  CHECK(decode(b({3 << 2, 'a', 'b', 'c', 5 << 2 | 1, 100, 0 << 2 | 2, 7, 9})) ==
        "literal 3;body 5 0 100;body 5 7 9;");
  CHECK(decode("") == "");
  CHECK(decode(b({0})).find("an empty literal piece") != std::string::npos);
  CHECK(decode(b({3})).find("an unknown kind") != std::string::npos);
  CHECK(decode(b({9 << 2, 'a'})).find("ends inside a piece") != std::string::npos);
  CHECK(decode(b({1, 0})).find("a body out of range") != std::string::npos);
  CHECK(decode(b({1})).find("ends inside a piece") != std::string::npos);
  std::string const huge(9, '\xff');
  CHECK(decode(huge + b({0x01, 1})).find("unknown kind") != std::string::npos);
  CHECK(decode(huge + b({0x7f, 1})).find("more than 64 bits") != std::string::npos);
  CHECK(decode(b({0xfd}) + std::string(8, '\xff') + b({0x01, 1}))
            .find("a file number out of range") != std::string::npos);
  CHECK(decode(b({2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1}))
            .find("a body out of range") != std::string::npos);
}
