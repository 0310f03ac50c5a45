// SPDX-License-Identifier: Apache-2.0
// Fuzz target: a layer's tar stacked on a fixed base layer.  The input is not the tar (checksums of
// headers would keep a mutation from getting anywhere) but a list of its members, in words that
// mean something to the base: paths that are there, whiteouts and opaque marks of them, links, and
// directories in the place of files.  Whatever is accepted must leave a clean store, read, and come
// out as the tar that it was; whatever is refused must leave the store as it was.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "engine/import.h"
#include "engine/store.h"
#include "fsck/check.h"
#include "importer/layer_sink.h"
#include "importer/tar_reader.h"
#include "tests/support/contents.h"
#include "tests/support/skeleton_tar.h"
#include "tests/support/tar_builder.h"
#include "tests/support/test_store.h"

namespace {

using namespace lcfs;
using namespace lcfs::test;

void require(bool ok) {
  if (!ok) __builtin_trap();
}

// What is written stays here; below it is the base's device.
class Overlay final : public SharedDevice {
 public:
  explicit Overlay(std::shared_ptr<Device> below) : SharedDevice(std::move(below)) {}
  Status read(std::uint64_t at, std::span<std::byte> into) override {
    LCFS_TRY(below_->read(at, into));
    for (std::size_t i = 0; i < into.size(); i += kBlockSize) {
      if (auto const it = blocks_.find(at + i); it != blocks_.end())
        std::memcpy(into.data() + i, it->second.data(), kBlockSize);
    }
    return {};
  }
  Status write(std::uint64_t at, std::span<iovec const> parts) override {
    std::string bytes;
    for (auto const& p : parts) bytes.append(static_cast<char const*>(p.iov_base), p.iov_len);
    require(at % kBlockSize == 0 && bytes.size() % kBlockSize == 0);
    for (std::size_t i = 0; i < bytes.size(); i += kBlockSize)
      blocks_[at + i] = bytes.substr(i, kBlockSize);
    return {};
  }
  Status flush() override { return {}; }
  Status discard(std::uint64_t, std::uint64_t) override { return {}; }
  Status reserve(std::uint64_t, std::uint64_t) override { return {}; }
  Status release(std::uint64_t, std::uint64_t) override { return {}; }

 private:
  std::map<std::uint64_t, std::string> blocks_;
};

Result<LayerId> stack(Store& store, LayerId parent, std::string const& tar) {
  ImportTransaction transaction(store);
  LCFS_TRY_ASSIGN(auto const ingest, transaction.begin_layer());
  importer::LayerSink sink(*ingest, store.space().free * kBlockSize);
  importer::TarReader reader(sink);
  LCFS_TRY(reader.feed(std::as_bytes(std::span{tar.data(), tar.size()})));
  LCFS_TRY(reader.finish());
  LCFS_TRY(ingest->finish());
  LayerMeta meta;
  meta.chain_id.fill(static_cast<std::uint8_t>(parent + 1));
  meta.diff_bytes = tar.size();
  LCFS_TRY_ASSIGN(LayerId const id, transaction.stack(*ingest, parent, meta));
  LCFS_TRY(transaction.commit());
  return id;
}

constexpr char const* kPaths[] = {
    "d",
    "d/",
    "./d",
    "d/one",
    "d/two",
    "d/sub",
    "d/sub/x",
    "d/sub/y",
    "l",
    "l/one",
    "l/new",
    "h",
    "h/in",
    "f",
    "/f",
    "e",
    "e/a",
    "e/b/c",
    "d/.wh.one",
    "d/.wh.sub",
    ".wh.d",
    ".wh.h",
    ".wh.l",
    "l/.wh.two",
    "e/.wh.a",
    "d/.wh..wh..opq",
    ".wh..wh..opq",
    "e/.wh..wh..opq",
    "d/sub/.wh..wh..opq",
    "new",
    "new/a",
    "new/b/c",
    "new/.wh.a",
    "new/.wh..wh..opq",
    "loop",
    "loop/x",
    "../d/one",
    "d/../f",
    "up/one",
    ".",
    "/",
    ".wh.",
    ".wh..",
    ".wh..wh.plnk",
    "\xff\x01",
    "d/a b",
};

class Program {
 public:
  Program(std::uint8_t const* data, std::size_t size) : data_(data, size) {}
  std::string tar() {
    TarBuilder out;
    for (int members = 0; members < 40 && !data_.empty(); ++members) member(out);
    return out.end().text();
  }

 private:
  std::uint8_t next() {
    if (data_.empty()) return 0;
    auto const byte = data_.front();
    data_ = data_.subspan(1);
    return byte;
  }
  std::string path() { return kPaths[next() % std::size(kPaths)]; }
  void member(TarBuilder& out) {
    auto const kind = next();
    auto const name = path();
    if (kind >= 0xe0)
      out.pax({{"SCHILY.xattr.user.x", std::string(kind & 0x1f, 'v')}, {"mtime", "7.5"}});
    switch (kind % 8) {
      case 0: out.file(name, ""); break;
      case 1: out.file(name, std::string(next(), 's')); break;
      case 2: out.file(name, std::string(4000 + 20 * next(), 'm')); break;
      case 3: out.block(TarBlock(name, '5').mode(0700 + next() % 0100)); break;
      case 4: out.symlink(name, path()); break;
      case 5:
      case 6: out.hardlink(name, path()); break;
      default: out.block(TarBlock(name, next() % 2 != 0 ? '6' : '3').mode(0644)); break;
    }
  }
  std::span<std::uint8_t const> data_;
};

struct Base {
  std::shared_ptr<Device> device = make_memory_device(kMinStoreBlocks * kBlockSize);
  LayerId id = 0;
  Contents contents{};
  Base() {
    must(Store::format(*device, {}));
    auto const store = must(Store::open(std::make_unique<SharedDevice>(device), {}));
    TarBuilder tar;
    tar.directory("d/")
        .file("d/one", "1")
        .file("d/two", std::string(9000, '2'))
        .directory("d/sub/")
        .file("d/sub/x", "x")
        .hardlink("h", "d/one");
    tar.symlink("l", "d")
        .symlink("loop", "loop")
        .symlink("up", "../../d")
        .file("f", std::string(3000, 'f'))
        .directory("e/")
        .file("e/a", "a")
        .symlink("e/b", "/d");
    id = must(stack(*store, 0, tar.end().text()));
    must(store->close());
    contents = *contents_of(*device);
  }
};

bool clean(Device& device) {
  fsck::Options how;
  how.threads = 1;
  auto const report = fsck::check(device, how);
  return report && report->clean();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  static Base const base;
  auto const tar = Program(data, size).tar();
  auto const device = std::make_shared<Overlay>(base.device);
  {
    auto const store = must(Store::open(std::make_unique<SharedDevice>(device), {}));
    auto const id = stack(*store, base.id, tar);
    if (id) require(must(test::tar_from_skeleton(*store, *id)) == tar);
    if (!id)
      require(id.error().code == Errc::kInvalid || id.error().code == Errc::kUnsupported ||
              id.error().code == Errc::kNoSpace);
    must(store->close());
  }
  require(clean(*device));
  auto contents = contents_of(*device);
  require(contents.has_value());
  for (auto const& [path, text] : *contents) require(text.find(kUnreadable) == std::string::npos);
  // The base is what it was, alone or below what was stacked.
  std::erase_if(*contents, [](auto const& entry) {
    return !entry.first.starts_with(std::string_view("010101010101"));
  });
  require(*contents == base.contents);
  return 0;
}
