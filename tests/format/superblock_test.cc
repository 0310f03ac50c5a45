// SPDX-License-Identifier: Apache-2.0
#include "format/superblock.h"

#include <doctest/doctest.h>

#include <cstring>

#include "format/hash.h"

using namespace lcfs;
using namespace lcfs::format;

namespace {

using Block = std::array<std::byte, kBlockSize>;
constexpr std::uint64_t kDevice = 8192 * std::uint64_t{kBlockSize};

SuperblockInfo good() {
  SuperblockInfo s;
  s.slot = 1;
  for (std::uint8_t i = 0; i < 16; ++i) s.uuid[i] = static_cast<std::uint8_t>(i * 17);
  s.hash_seed.fill(9);
  s.label = "images";
  s.generation = 7;
  s.total_blocks = 8000;
  s.store_root.block.set(100);
  s.store_root.generation.set(6);
  s.store_root.checksum.set(0x12345678);
  s.next_id = 10;
  s.next_inode = 1000;
  s.created_ns = -5;
  s.written_ns = 1234567890123456789;
  s.store_tree_blocks = 12;
  s.layer_blocks = 500;
  s.layer_count = 4;
  s.image_count = 5;
  return s;
}

Block encode(SuperblockInfo const& s) {
  Block b{};
  encode_superblock(s, b);
  return b;
}

void seal(Block& b) {
  le32 const sum{crc32c(std::span{b}.subspan(0xc, 0x1f4))};
  std::memcpy(b.data() + 8, &sum, 4);
}

template <class T>
void put(Block& b, std::size_t at, T v) {
  LittleEndian<T> const le{v};
  std::memcpy(b.data() + at, &le, sizeof le);
}

}  // namespace

TEST_CASE("superblock: what is encoded is parsed again") {
  auto const s = good();
  auto const b = encode(s);
  auto const r = parse_superblock(b, {1, kDevice, false});
  REQUIRE_MESSAGE(r.ok(), r.error().text());
  CHECK(encode(*r) == b);
  CHECK(r->label == "images");
  CHECK(r->created_ns == -5);
  CHECK(r->store_root == s.store_root);
  CHECK_FALSE(r->read_only_features());
  auto full = s;
  full.label = std::string(64, 'x');
  CHECK(parse_superblock(encode(full), {1, kDevice, false})->label == full.label);
}

TEST_CASE("superblock: each damaged field is refused, and named") {
  struct Case {
    char const* name;
    void (*damage)(Block&);
    Errc code;
    std::uint64_t offset;
    char const* text;
  };
  static constexpr Case kCases[] = {
      {"magic", [](Block& b) { put<std::uint8_t>(b, 0, 'l'); }, Errc::kInvalid, 0,
       "not an lcfs store"},
      {"size small", [](Block& b) { put<std::uint16_t>(b, 0xc, 0x1ff); }, Errc::kCorrupt, 0xc,
       "superblock_size 511"},
      {"size large", [](Block& b) { put<std::uint16_t>(b, 0xc, 0x1001); }, Errc::kCorrupt, 0xc,
       "superblock_size 4097"},
      {"block_bits", [](Block& b) { put<std::uint8_t>(b, 0xe, 3); }, Errc::kCorrupt, 0xe,
       "block_bits 3"},
      {"node_bits", [](Block& b) { put<std::uint8_t>(b, 0xf, 15); }, Errc::kCorrupt, 0xf,
       "node_bits 15"},
      {"version", [](Block& b) { put<std::uint32_t>(b, 0x10, 2); }, Errc::kUnsupported, 0x10,
       "format 2; this version supports 1"},
      {"slot", [](Block& b) { put<std::uint32_t>(b, 0x14, 0); }, Errc::kCorrupt, 0x14,
       "slot 0, but found in slot 1"},
      {"incompat", [](Block& b) { put<std::uint64_t>(b, 0x28, 6); }, Errc::kUnsupported, 0x28,
       "features 0x6"},
      {"label", [](Block& b) { put<std::uint8_t>(b, 0x58, 'x'); }, Errc::kCorrupt, 0x58,
       "label has bytes after its end"},
      {"generation", [](Block& b) { put<std::uint64_t>(b, 0x90, 0); }, Errc::kCorrupt, 0x90,
       "generation 0"},
      {"tiny", [](Block& b) { put<std::uint64_t>(b, 0x98, 4095); }, Errc::kCorrupt, 0x98,
       "total_blocks 4095"},
      {"huge", [](Block& b) { put<std::uint64_t>(b, 0x98, ~0ull); }, Errc::kCorrupt, 0x98,
       "total_blocks"},
      {"cut short", [](Block& b) { put<std::uint64_t>(b, 0x98, 8193); }, Errc::kCorrupt, 0x98,
       "has only 8192"},
      {"root low", [](Block& b) { put<std::uint64_t>(b, 0xa0, 15); }, Errc::kCorrupt, 0xa0,
       "block 15"},
      {"root high", [](Block& b) { put<std::uint64_t>(b, 0xa0, 7997); }, Errc::kCorrupt, 0xa0,
       "block 7997"},
      {"root wraps", [](Block& b) { put<std::uint64_t>(b, 0xa0, ~0ull - 1); }, Errc::kCorrupt, 0xa0,
       "outside the store"},
      {"root empty", [](Block& b) { put<std::uint64_t>(b, 0xa0, 0); }, Errc::kCorrupt, 0xa0,
       "is empty"},
      {"root generation 0", [](Block& b) { put<std::uint64_t>(b, 0xa8, 0); }, Errc::kCorrupt, 0xa8,
       "generation 0"},
      {"root of the future", [](Block& b) { put<std::uint64_t>(b, 0xa8, 8); }, Errc::kCorrupt, 0xa8,
       "generation 8 not in 1..7"},
      {"keep", [](Block& b) { put<std::uint32_t>(b, 0xb4, kMaxKept + 2); }, Errc::kCorrupt, 0xb4,
       "keep 66"},
      {"next_id", [](Block& b) { put<std::uint64_t>(b, 0xb8, 0); }, Errc::kCorrupt, 0xb8,
       "next_id 0"},
      {"next_inode", [](Block& b) { put<std::uint64_t>(b, 0xc0, 0); }, Errc::kCorrupt, 0xc0,
       "next_inode 0"},
      {"tree not whole nodes", [](Block& b) { put<std::uint64_t>(b, 0xd8, 13); }, Errc::kCorrupt,
       0xd8, "store_tree_blocks 13"},
      {"tree too large", [](Block& b) { put<std::uint64_t>(b, 0xd8, 8000); }, Errc::kCorrupt, 0xd8,
       "store_tree_blocks 8000"},
      {"layers too large", [](Block& b) { put<std::uint64_t>(b, 0xe0, 7973); }, Errc::kCorrupt,
       0xe0, "layer_blocks 7973, but only 7972"},
      {"layers wrap", [](Block& b) { put<std::uint64_t>(b, 0xe0, ~0ull); }, Errc::kCorrupt, 0xe0,
       "layer_blocks"},
      {"too many layers", [](Block& b) { put<std::uint64_t>(b, 0xe8, 10); }, Errc::kCorrupt, 0xe8,
       "layer_count 10, but only 9"},
      {"too many images", [](Block& b) { put<std::uint64_t>(b, 0xf0, 6); }, Errc::kCorrupt, 0xf0,
       "image_count 6, but only 5"},
      {"too many written runs", [](Block& b) { put<std::uint32_t>(b, 0xf8, 225); }, Errc::kCorrupt,
       0xf8, "written_count 225"},
      {"checksum of no runs", [](Block& b) { put<std::uint32_t>(b, 0xfc, 1); }, Errc::kCorrupt,
       0xfc, "written_checksum without runs"},
      {"reserved first", [](Block& b) { put<std::uint8_t>(b, 0x100, 1); }, Errc::kCorrupt, 0x100,
       "reserved byte is 0x1"},
      {"reserved last", [](Block& b) { put<std::uint8_t>(b, 0x1ff, 1); }, Errc::kCorrupt, 0x1ff,
       "reserved byte is 0x1"},
  };
  for (auto const& c : kCases) {
    CAPTURE(c.name);
    auto b = encode(good());
    c.damage(b);
    seal(b);
    auto const r = parse_superblock(b, {1, kDevice, false});
    REQUIRE_FALSE(r);
    CHECK(r.error().code == c.code);
    CHECK(r.error().offset == c.offset);
    CHECK_MESSAGE(r.error().message.find(c.text) != std::string::npos, r.error().message);
  }
}

TEST_CASE("superblock: any flipped bit is seen, and so is any cut") {
  auto const b = encode(good());
  for (std::size_t bit = 0; bit < 8 * 0x200; ++bit) {
    auto damaged = b;
    damaged[bit / 8] ^= std::byte{1} << bit % 8;
    CAPTURE(bit);
    CHECK_FALSE(parse_superblock(damaged, {1, kDevice, false}));
  }
  for (std::size_t size = 0; size < sizeof(Superblock); ++size)
    CHECK_FALSE(parse_superblock(std::span{b}.first(size), {1, kDevice, false}));
}

TEST_CASE("superblock: unknown features that may be ignored are, and their bytes are not judged") {
  auto b = encode(good());
  put<std::uint64_t>(b, 0x18, 1);
  put<std::uint64_t>(b, 0x20, 2);
  put<std::uint64_t>(b, 0x100, 77);
  seal(b);
  auto const r = parse_superblock(b, {1, kDevice, false});
  REQUIRE(r);
  CHECK(r->read_only_features());
}

TEST_CASE("superblock: an empty store has no tree") {
  SuperblockInfo s;
  s.generation = 1;
  s.total_blocks = kMinStoreBlocks;
  auto const r = parse_superblock(encode(s), {0, kDevice, false});
  REQUIRE(r);
  CHECK(r->store_root.block.get() == 0);
}

TEST_CASE("uuid: text and back; what is none is refused") {
  auto const text = std::string("00112233-4455-6677-8899-aabbccddeeff");
  CHECK(uuid_text(good().uuid) == text);
  CHECK(*parse_uuid(text) == good().uuid);
  CHECK(*parse_uuid("00112233-4455-6677-8899-AABBCCDDEEFF") == good().uuid);
  for (auto const* bad :
       {"", "00112233445566778899aabbccddeeff", "00112233-4455-6677-8899-aabbccddeef",
        "00112233-4455-6677-8899-aabbccddeefff", "0011223g-4455-6677-8899-aabbccddeeff",
        "00112233+4455-6677-8899-aabbccddeeff"})
    CHECK_FALSE(parse_uuid(bad));
}

TEST_CASE(
    "superblock: written runs are parsed again, judged one by one, and known for torn when they "
    "are not those of the superblock") {
  auto s = good();
  for (std::uint32_t i = 0; i < kMaxWritten; ++i) {
    auto& run = s.written.emplace_back();
    run.block.set(i == 0 ? kReservedBlocks : 7996);
    run.count.set(1 + i % kNodeBlocks);
    run.checksum.set(i * 77);
  }
  auto const b = encode(s);
  auto const same = parse_superblock(b, {1, kDevice, false});
  REQUIRE(same);
  CHECK(same->written == s.written);
  CHECK_FALSE(same->written_torn);

  auto torn = b;
  torn[0x203] ^= std::byte{1};
  auto const r = parse_superblock(torn, {1, kDevice, false});
  REQUIRE(r);
  CHECK(r->written_torn);
  CHECK(r->written.empty());
  CHECK(r->generation == s.generation);

  struct Bad {
    std::uint64_t block;
    std::uint32_t count;
  };
  for (auto const& bad : {Bad{15, 1}, Bad{7997, 4}, Bad{~0ull, 1}, Bad{100, 0}, Bad{100, 5}}) {
    CAPTURE(bad.block);
    auto wrong = s;
    wrong.written[3].block.set(bad.block);
    wrong.written[3].count.set(bad.count);
    auto const refused = parse_superblock(encode(wrong), {1, kDevice, false});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().offset == 0x230);
  }
}

TEST_CASE("superblock: a run holds if all its blocks are as they were") {
  std::vector<std::byte> bytes(2 * kBlockSize, std::byte{5});
  WrittenRun run;
  run.count.set(2);
  run.checksum.set(crc32c(bytes));
  CHECK(holds(run, bytes));
  CHECK_FALSE(holds(run, std::span{bytes}.first(kBlockSize)));
  bytes.back() = std::byte{4};
  CHECK_FALSE(holds(run, bytes));
}
