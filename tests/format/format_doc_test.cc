// SPDX-License-Identifier: Apache-2.0
// The hex dump in doc/format.md is of a real store: made again here, byte for byte.
// After a wanted change of the format: LCFS_UPDATE_DOC=1 format_doc_test, and read the difference.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "engine/store.h"
#include "format/node.h"
#include "fsck/check.h"
#include "tests/support/support.h"

using namespace lcfs;
using namespace lcfs::format;

namespace {

constexpr std::string_view kBegin = "<!-- hexdump:begin -->\n", kEnd = "<!-- hexdump:end -->";

void must(Status const& status) { REQUIRE_MESSAGE(status.ok(), status.error().text()); }

// A directory and a small file in one layer "web".
void make_store(std::string const& path) {
  ::setenv("SOURCE_DATE_EPOCH", "0", 1);
  FormatOptions options;
  options.label = "example";
  options.uuid = *parse_uuid("00112233-4455-6677-8899-aabbccddeeff");
  {
    auto device = create_file_device(path, kMinStoreBlocks * kBlockSize);
    REQUIRE(device);
    must(Store::format(**device, options));
  }
  auto device = open_device(path, Access::kReadWrite);
  REQUIRE(device);
  OpenOptions open;
  open.keep = 0;  // the example has no history
  auto store = Store::open(*std::move(device), open);
  REQUIRE(store);
  auto const id = (*store)->create_layer("web", 0);
  REQUIRE(id);
  {
    auto const layer = *(*store)->layer(*id);
    auto const etc = layer->create(layer->root(), "etc", {S_IFDIR | 0755, 0, 0, 0});
    REQUIRE(etc);
    auto const motd = layer->create(etc->inode, "motd", {S_IFREG | 0644, 0, 0, 0});
    REQUIRE(motd);
    std::string const text = "hello, layers\n";
    REQUIRE(layer->write(motd->inode, 0, std::as_bytes(std::span{text})));
  }
  must((*store)->close());
}

// Lines of 16 bytes that are not all zero, with their byte in the store.
std::string dump(Device& device, std::uint64_t at, std::size_t size) {
  AlignedBuffer buffer(size);
  must(device.read(at, buffer.span()));
  std::string out;
  for (std::size_t i = 0; i < size; i += 16) {
    auto const line = buffer.span().subspan(i, 16);
    if (std::all_of(line.begin(), line.end(), [](std::byte b) { return b == std::byte{0}; }))
      continue;
    std::string hex, text;
    for (auto const b : line) {
      auto const c = std::to_integer<unsigned char>(b);
      hex += fmt::format(" {:02x}", c);
      text += c >= 0x20 && c < 0x7f ? static_cast<char>(c) : '.';
    }
    out += fmt::format("    {:08x} {}  {}\n", at + i, hex, text);
  }
  return out;
}

// The one leaf of each tree, found as "How to find things" says.
std::string dump_store(std::string const& path) {
  auto device = open_device(path, Access::kReadOnly);
  REQUIRE(device);
  auto const report = fsck::check(**device, {});
  REQUIRE(report);
  REQUIRE(report->clean());
  auto const& sb = *report->superblock;
  auto const root = sb.store_root.block.get();
  std::string out;
  for (auto const slot : {0u, 1u})
    out +=
        fmt::format("Superblock slot {}, generation {}{}:\n\n{}\n", slot,
                    report->slots[slot].generation, slot == *report->in_force ? ", in force" : "",
                    dump(**device, kSlotBlock[slot] * kBlockSize, kBlockSize));
  out += fmt::format("Root of the store tree, a leaf, at block {}:\n\n{}\n", root,
                     dump(**device, root * kBlockSize, kNodeSize));

  AlignedBuffer node(kNodeSize);
  must((*device)->read(root * kBlockSize, node.span()));
  NodeReader const reader(node.data());
  REQUIRE(reader.leaf());
  for (std::uint32_t i = 0; i < reader.count(); ++i) {
    if (reader.key(i).kind != kLayer) continue;
    auto const layer = parse_layer(reader.key(i), reader.value(i), sb.total_blocks);
    REQUIRE(layer);
    auto const block = layer->root.block.get();
    out += fmt::format("Root of layer {} (\"{}\"), a leaf, at block {}:\n\n{}\n", layer->id,
                       layer->name, block, dump(**device, block * kBlockSize, kNodeSize));
  }
  return out;
}

}  // namespace

TEST_CASE("doc/format.md: its hex dump is what lcfs writes") {
  test::TempDir const dir;
  auto const path = dir.file("tiny.lcfs");
  make_store(path);
  auto const is = dump_store(path);

  auto const name = std::string{LCFS_SOURCE_DIR} + "/doc/format.md";
  std::ifstream in(name);
  std::stringstream all;
  all << in.rdbuf();
  auto doc = all.str();
  auto const begin = doc.find(kBegin), end = doc.find(kEnd);
  REQUIRE((begin != std::string::npos && end != std::string::npos && begin < end));
  auto const from = begin + kBegin.size();
  if (std::getenv("LCFS_UPDATE_DOC") != nullptr) {
    doc.replace(from, end - from, is);
    std::ofstream(name) << doc;
    return;
  }
  CHECK(doc.substr(from, end - from) == is);
}
