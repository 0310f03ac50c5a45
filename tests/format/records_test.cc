// SPDX-License-Identifier: Apache-2.0
#include "format/records.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <functional>

#include "format/hash.h"
#include "tests/support/support.h"

using namespace lcfs;
using namespace lcfs::format;
using lcfs::test::bytes_of;

namespace {

constexpr std::uint64_t kTotal = 10000;

template <class T>
std::string text_of(T const& bytes) {
  return {reinterpret_cast<char const*>(bytes.data()), bytes.size()};
}

template <class T>
std::string with(std::string s, std::size_t at, T v) {
  LittleEndian<T> const le{v};
  REQUIRE(at + sizeof le <= s.size());
  std::copy_n(reinterpret_cast<char const*>(&le), sizeof le,
              s.begin() + static_cast<std::ptrdiff_t>(at));
  return s;
}

using Parse = std::function<Status(Key const&, Bytes)>;
template <class F>
Parse parser(F f) {
  return [f](Key const& k, Bytes v) -> Status {
    auto r = f(k, v);
    if (!r) return std::move(r).error();
    return {};
  };
}

// A sound record; what is done to it is refused at that byte with these words.
struct Damage {
  char const* name;
  std::string value;
  std::uint64_t offset;
  char const* text;
};

void check(Parse const& parse, Key const& key, std::string const& good,
           std::vector<Damage> const& damages, std::vector<Key> const& bad_keys) {
  auto const sound = parse(key, bytes_of(good));
  REQUIRE_MESSAGE(sound.ok(), sound.error().text());
  for (auto const& d : damages) {
    CAPTURE(d.name);
    // In memory of exactly its size, so that a reader that goes too far is seen by ASan.
    std::vector<char> const exact(d.value.begin(), d.value.end());
    auto const r = parse(key, std::as_bytes(std::span{exact}));
    REQUIRE_FALSE(r);
    CHECK(r.error().code == Errc::kCorrupt);
    CHECK(r.error().offset == d.offset);
    CHECK_MESSAGE(r.error().message.find(d.text) != std::string::npos, r.error().message);
  }
  for (std::size_t size = 0; size < good.size(); ++size) {
    CAPTURE(size);
    std::vector<char> const exact(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size));
    CHECK_FALSE(parse(key, std::as_bytes(std::span{exact})));
  }
  CHECK_FALSE(parse(key, bytes_of(good + "x")));
  for (auto const& k : bad_keys) {
    CAPTURE(k.inode);
    CAPTURE(k.kind);
    CAPTURE(k.offset);
    CHECK_FALSE(parse(k, bytes_of(good)));
  }
}

std::string good_inode(std::uint32_t mode) {
  InodeInfo i;
  i.mode = mode;
  i.nlink = 2;
  i.uid = 4294967294u;
  i.gid = 7;
  i.atime = {-1, 999999999};
  i.mtime = {1ll << 40, 1};
  if (S_ISREG(mode)) i.size = 5000, i.blocks = 2;
  if (S_ISLNK(mode)) i.size = 4;
  if (S_ISDIR(mode)) i.size = 3;
  if (S_ISCHR(mode)) i.rdev = 5ull << 32 | 1;
  return text_of(encode_inode(i));
}

LayerInfo good_layer() {
  LayerInfo l;
  l.id = 5;
  l.parent = 4;
  l.state = LayerState::kFrozen;
  l.has_digests = true;
  l.root.block.set(16);
  l.root.generation.set(1);
  l.root_inode = 1;
  l.own_blocks = 4;
  l.used_blocks = 8;
  l.inodes = 3;
  l.children = 1;
  l.images = 1;
  l.created_ns = -1;
  l.frozen_ns = 1;
  l.diff_bytes = 9;
  l.diff_id.fill(1);
  l.chain_id.fill(2);
  l.serve_id = 7;
  l.name = "web";
  return l;
}

}  // namespace

TEST_CASE("records: an inode comes back as it was; each damaged field is refused, and named") {
  for (auto const type : {S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK}) {
    auto const value = good_inode(static_cast<std::uint32_t>(type) | 04755);
    auto const r = parse_inode({9, kInode, 0}, bytes_of(value));
    REQUIRE_MESSAGE(r.ok(), r.error().text());
    CHECK(text_of(encode_inode(*r)) == value);
  }
  auto const file = good_inode(S_IFREG | 0644), dir = good_inode(S_IFDIR | 0755),
             link = good_inode(S_IFLNK | 0777);
  check(parser(parse_inode), {9, kInode, 0}, file,
        {{"no type", with<std::uint32_t>(file, 0, 0644), 0, "no known type"},
         {"two types", with<std::uint32_t>(file, 0, 0170644), 0, "no known type"},
         {"high bits", with<std::uint32_t>(file, 0, 0x10000 | S_IFREG), 0, "unknown bits"},
         {"file too large", with<std::uint64_t>(file, 0x10, kMaxFileSize + 1), 0x10, "size"},
         {"too many blocks", with<std::uint64_t>(file, 0x18, kMaxStoreBlocks + 1), 0x18, "blocks"},
         {"blocks of a directory", with<std::uint64_t>(dir, 0x18, 1), 0x18, "blocks 1"},
         {"rdev of a file", with<std::uint64_t>(file, 0x20, 1), 0x20, "rdev 0x1"},
         {"empty symlink", with<std::uint64_t>(link, 0x10, 0), 0x10, "size 0 not in 1..4095"},
         {"long symlink", with<std::uint64_t>(link, 0x10, 4096), 0x10, "size 4096"},
         {"sized fifo", with<std::uint64_t>(good_inode(S_IFIFO), 0x10, 1), 0x10,
          "size 1 not in 0..0"},
         {"lone directory", with<std::uint32_t>(dir, 0x04, 1), 0x04, "nlink 1"},
         {"atime", with<std::uint32_t>(file, 0x48, 1000000000), 0x48, "atime_nsec 1000000000"},
         {"mtime", with<std::uint32_t>(file, 0x4c, 1000000000), 0x4c, "mtime_nsec"},
         {"ctime", with<std::uint32_t>(file, 0x50, ~0u), 0x50, "ctime_nsec"},
         {"btime", with<std::uint32_t>(file, 0x54, ~0u), 0x54, "btime_nsec"},
         {"flags", with<std::uint32_t>(file, 0x58, 1), 0x58, "flags 0x1"},
         {"reserved", with<std::uint32_t>(file, 0x5c, 1), 0x5c, "reserved0 0x1"}},
        {{0, kInode, 0}, {9, kInode, 1}, {9, kDirent, 0}});
}

TEST_CASE("records: directory entries and back references, names and all") {
  std::string const name = std::string("a\nb\xff") + std::string(251, 'x');
  auto const entry = encode_dirent({77, 8, name});
  auto const e = parse_dirent({2, kDirent, 256}, bytes_of(entry));
  REQUIRE(e);
  CHECK((e->inode == 77 && e->type == 8 && e->name == name));
  auto const parent = encode_parent({2, name});
  auto const p = parse_parent({77, kParent, 256}, bytes_of(parent));
  REQUIRE(p);
  CHECK((p->directory == 2 && p->name == name));

  auto const d = [](std::string_view n) { return encode_dirent({77, 8, n}); };
  check(parser(parse_dirent), {2, kDirent, 256}, d("ab"),
        {{"inode 0", encode_dirent({0, 8, "ab"}), 0, "inode 0"},
         {"type 0", encode_dirent({77, 0, "ab"}), 8, "entry type 0"},
         {"whiteout type", encode_dirent({77, 14, "ab"}), 8, "entry type 14"},
         {"no name", d(""), 9, "empty entry name"},
         {"dot", d("."), 10, "\".\""},
         {"dotdot", d(".."), 10, "\"..\""},
         {"slash", d("a/"), 11, "a slash"},
         {"nul", d(std::string_view("a\0", 2)), 11, "a NUL byte"},
         {"size", with<std::uint8_t>(d("ab"), 9, 3), 12, "12 bytes, expected 13"}},
        {{0, kDirent, 256}, {2, kDirent, 255}, {2, kDirent, 1ull << 63}, {2, kParent, 256}});
  auto const q = [](std::string_view n) { return encode_parent({2, n}); };
  check(parser(parse_parent), {77, kParent, 256}, q("ab"),
        {{"directory 0", encode_parent({0, "ab"}), 0, "inode 0"},
         {"no name", q(""), 8, "empty back reference name"},
         {"dotdot", q(".."), 9, "\"..\""},
         {"slash", q("/b"), 9, "a slash"}},
        {{0, kParent, 256}, {77, kParent, 0}, {77, kDirent, 256}});
}

TEST_CASE("records: attributes hold their first chunk") {
  std::string const value(4000, 'v');
  auto const x = encode_xattr({"user.a", 4000, bytes_of(value)});
  auto const r = parse_xattr({3, kXattr, 0x10000}, bytes_of(x));
  REQUIRE(r);
  CHECK((r->name == "user.a" && r->value_size == 4000 && r->first.size() == kXattrChunk));
  auto const empty = encode_xattr({"user.a", 0, {}});
  CHECK(parse_xattr({3, kXattr, 0}, bytes_of(empty))->first.empty());
  auto const small = encode_xattr({"user.a", 2, bytes_of(value).first(2)});
  check(
      parser(parse_xattr), {3, kXattr, 0x10000}, small,
      {{"no name", with<std::uint8_t>(small, 0, 0), 0, "empty attribute name"},
       {"reserved", with<std::uint8_t>(small, 1, 1), 1, "reserved0 0x1"},
       {"too large", with<std::uint32_t>(small, 2, kMaxXattr + 1), 2, "65537"},
       {"cut", with<std::uint32_t>(small, 2, 3), 14, "14 bytes, expected 15"},
       {"nul", with<std::uint8_t>(small, 8, 0), 8, "a NUL byte"}},
      {{0, kXattr, 0x10000}, {3, kXattr, 0x10001}, {3, kXattr, 1ull << 63}, {3, kInline, 0x10000}});
}

TEST_CASE("records: extents stay inside the store and the file") {
  std::vector<le32> const sums{le32{1}, le32{2}, le32{3}};
  std::vector<std::byte> value;
  encode_extent({9997, 4, 3, sums}, value);
  auto const good = text_of(value);
  auto const r = parse_extent({3, kExtent, 8192}, bytes_of(good), kTotal);
  REQUIRE(r);
  CHECK((r->block == 9997 && r->owner == 4 && r->count == 3 && r->checksums[2].get() == 3));
  auto const parse = parser([](Key const& k, Bytes v) { return parse_extent(k, v, kTotal); });
  check(parse, {3, kExtent, 8192}, good,
        {{"superblock", with<std::uint64_t>(good, 0, 15), 0, "blocks 15+3 outside"},
         {"end", with<std::uint64_t>(good, 0, 9998), 0, "blocks 9998+3 outside"},
         {"wraps", with<std::uint64_t>(good, 0, ~0ull), 0, "outside"},
         {"owner", with<std::uint64_t>(good, 8, 0), 8, "layer 0"},
         {"none", with<std::uint32_t>(good, 16, 0), 16, "0 blocks"},
         {"many", with<std::uint32_t>(good, 16, 257), 16, "257 blocks"},
         {"sums", with<std::uint32_t>(good, 16, 2), 28, "32 bytes, expected 28"}},
        {{0, kExtent, 0},
         {3, kExtent, 1},
         {3, kExtent, kMaxFileSize},
         {3, kExtent, kMaxFileSize - 4096},
         {3, kInode, 0}});
}

TEST_CASE("records: a layer comes back as it was; each damaged field is refused, and named") {
  auto const parse = parser([](Key const& k, Bytes v) { return parse_layer(k, v, kTotal); });
  auto const l = encode_layer(good_layer());
  Key const key{5, kLayer, 0};
  auto const r = parse_layer(key, bytes_of(l), kTotal);
  REQUIRE_MESSAGE(r.ok(), r.error().text());
  CHECK(encode_layer(*r) == l);
  CHECK(r->name == "web");
  check(
      parse, key, l,
      {{"own parent", with<std::uint64_t>(l, 0, 5), 0, "its own parent"},
       {"state 0", with<std::uint8_t>(l, 8, 0), 8, "state 0"},
       {"state 4", with<std::uint8_t>(l, 8, 4), 8, "state 4"},
       {"flags", with<std::uint8_t>(l, 9, 5), 9, "flags 0x5"},
       {"anonymous with name", with<std::uint8_t>(l, 9, 3), 0xa, "3 bytes"},
       {"anonymous, with nothing on it",
        with<std::uint64_t>(with<std::uint64_t>(with<std::uint8_t>(l, 9, 3), 0x40, 0), 0x48, 0), 9,
        "without children and images"},
       {"anonymous but open", with<std::uint8_t>(with<std::uint8_t>(l, 9, 3), 8, 1), 9,
        "not frozen"},
       {"no name", with<std::uint16_t>(l, 0xa, 0), 0xa, "0 bytes"},
       {"long name", with<std::uint16_t>(l, 0xa, 256), 0xa, "256 bytes"},
       {"dying with name", with<std::uint8_t>(l, 8, 3), 0xa, "3 bytes"},
       {"open with children", with<std::uint8_t>(l, 8, 1), 0x40, "not frozen"},
       {"open but frozen", with<std::uint64_t>(with<std::uint8_t>(l, 8, 1), 0x40, 0), 0x58,
        "freeze time"},
       {"no root", with<std::uint64_t>(l, 0xc, 0), 0xc, "block 0 outside"},
       {"root high", with<std::uint64_t>(l, 0xc, 9997), 0xc, "block 9997 outside"},
       {"root generation", with<std::uint64_t>(l, 0x14, 0), 0x14, "generation 0"},
       {"root inode", with<std::uint64_t>(l, 0x20, 0), 0x20, "root inode 0"},
       {"own > used", with<std::uint64_t>(l, 0x28, 9), 0x28, "own_blocks 9, but used_blocks 8"},
       {"used", with<std::uint64_t>(l, 0x30, kTotal + 1), 0x30, "used_blocks 10001"},
       {"no serve_id", with<std::uint64_t>(l, 0xa8, 0), 0xa8, "live layer with serve_id 0"},
       {"frozen with quota", with<std::uint64_t>(l, 0xb0, 9), 0xb0, "quota of 9 blocks"},
       {"digests without flag", with<std::uint8_t>(l, 9, 0), 0x68, "diff_id"},
       {"skeleton > own", with<std::uint64_t>(l, 0xb8, 5), 0x28, "own_blocks 4, but used_blocks 8"},
       {"open with skeleton",
        with<std::uint64_t>(with<std::uint8_t>(with<std::uint64_t>(l, 0x40, 0), 8, 1), 0xb8, 2),
        0xb8, "skeleton_blocks 2"},
       {"slash", with<std::uint8_t>(l, 0xc1, '/'), 0xc1, "a slash"}},
      {{0, kLayer, 0}, {5, kLayer, 1}, {5, kImage, 0}});
  LayerInfo anonymous = good_layer();
  anonymous.id = 5;
  anonymous.anonymous = true;
  anonymous.name = "@5";
  auto const n = encode_layer(anonymous);
  auto const nameless = parse_layer(key, bytes_of(n), kTotal);
  REQUIRE(nameless);
  CHECK(nameless->name == "@5");
  CHECK(nameless->anonymous);
  CHECK(encode_layer(*nameless) == n);
  check(parse, key, n,
        {{"no flag", with<std::uint8_t>(n, 9, 1), 0xa, "0 bytes"},
         {"a name", with<std::uint16_t>(n, 0xa, 1), 0xa, "1 bytes"}},
        {});
  LayerInfo dying;
  dying.id = 5;
  dying.state = LayerState::kDying;
  dying.own_blocks = 12;
  auto const d = encode_layer(dying);
  REQUIRE(parse_layer(key, bytes_of(d), kTotal));
  check(parse, key, d,
        {{"tree", with<std::uint64_t>(d, 0xc, 16), 0xc, "with a tree"},
         {"served", with<std::uint64_t>(d, 0xa8, 5), 0xa8, "dying layer with serve_id 5"},
         {"dying with quota", with<std::uint64_t>(d, 0xb0, 1), 0xb0, "quota of 1 blocks"}},
        {});
  LayerInfo open = good_layer();
  open.state = LayerState::kOpen;
  open.children = 0;
  open.frozen_ns = 0;
  open.quota_blocks = 1000;
  auto const o = encode_layer(open);
  auto const quota = parse_layer(key, bytes_of(o), kTotal);
  REQUIRE(quota);
  CHECK(encode_layer(*quota) == o);
}

TEST_CASE("records: skeletons") {
  SkeletonInfo info;
  info.layer = 5;
  info.size = 5000;
  info.first_inode = 17;
  info.blob = {{}, 40, BlobCompression::kGzip, 0x12345678, std::string(40, 'h')};
  info.blob.digest.fill(3);
  auto const s = encode_skeleton(info);
  Key const key{5, kSkeleton, 0};
  auto const r = parse_skeleton(key, bytes_of(s));
  REQUIRE(r);
  CHECK(encode_skeleton(*r) == s);
  CHECK(r->blob.head == std::string(40, 'h'));
  check(parser(parse_skeleton), key, s,
        {{"empty", with<std::uint64_t>(s, 0, 0), 0, "skeleton size: 0 bytes"},
         {"huge", with<std::uint64_t>(s, 0, kMaxSkeleton + 1), 0, "skeleton size: 268435457 bytes"},
         {"inode", with<std::uint64_t>(s, 8, 0), 8, "first inode 0"},
         {"compression", with<std::uint8_t>(s, 0x38, 3), 0x38, "blob compression 3"},
         {"head", with<std::uint8_t>(s, 0x39, 41), 0x39, "head of 41 bytes in a blob of 40"},
         {"reserved", with<std::uint8_t>(s, 0x3b, 1), 0x3b, "reserved byte is 0x1"},
         {"behind the head", with<std::uint8_t>(s, 0x7f, 1), 0x7f, "after the head"}},
        {{0, kSkeleton, 0}, {5, kSkeleton, 1}, {5, kSkeletonExtent, 0}});
  std::vector<le32> const sums{le32{1}, le32{2}};
  std::vector<std::byte> value;
  encode_extent({100, 5, 2, sums}, value);
  auto const good = text_of(value);
  REQUIRE(parse_skeleton_extent({5, kSkeletonExtent, 4096}, bytes_of(good), kTotal));
  check(parser([](Key const& k, Bytes v) { return parse_skeleton_extent(k, v, kTotal); }),
        {5, kSkeletonExtent, 0}, good,
        {{"owner", with<std::uint64_t>(good, 8, 4), 8, "skeleton of layer 5 owned by layer 4"},
         {"end", with<std::uint64_t>(good, 0, 9999), 0, "blocks 9999+2 outside"}},
        {{0, kSkeletonExtent, 0},
         {5, kSkeletonExtent, 1},
         {5, kSkeletonExtent, kMaxSkeleton},
         {5, kSkeletonExtent, kMaxSkeleton - 4096},
         {5, kExtent, 0}});
}

TEST_CASE("records: runs, images, names and digests") {
  auto const run = encode_run({5, 9000, 1000});
  check(parser([](Key const& k, Bytes v) { return parse_run(k, v, kTotal); }), {5, kRun, 9000}, run,
        {{"empty", with<std::uint64_t>(run, 0, 0), 0, "9000+0"},
         {"long", with<std::uint64_t>(run, 0, 1001), 0, "9000+1001"},
         {"wraps", with<std::uint64_t>(run, 0, ~0ull), 0, "9000+"}},
        {{0, kRun, 9000}, {5, kRun, 15}, {5, kRun, kTotal}, {5, kRun, ~0ull}, {5, kLayer, 9000}});

  ImageInfo i;
  i.config_digest.fill(1);
  i.top_layer = 3;
  i.layer_count = 2;
  i.config_size = 9;
  i.imported_ns = -9;
  auto const image = encode_image(i);
  CHECK(encode_image(*parse_image({6, kImage, 0}, bytes_of(image))) == image);
  check(parser(parse_image), {6, kImage, 0}, image,
        {{"no top", with<std::uint64_t>(image, 0x40, 0), 0x48, "layer_count 2 with top layer 0"},
         {"no layers", with<std::uint32_t>(image, 0x48, 0), 0x48, "layer_count 0 with top layer 3"},
         {"reserved", with<std::uint32_t>(image, 0x5c, 1), 0x5c, "reserved0 0x1"}},
        {{0, kImage, 0}, {6, kImage, 1}, {6, kLayer, 0}});

  auto const name = encode_name({6, NameType::kImage, "a/b:1"});
  CHECK(parse_name({0, kName, 256}, bytes_of(name))->name == "a/b:1");
  check(parser(parse_name), {0, kName, 256}, name,
        {{"id", with<std::uint64_t>(name, 0, 0), 0, "id 0"},
         {"type 0", with<std::uint8_t>(name, 8, 0), 8, "type 0"},
         {"type 3", with<std::uint8_t>(name, 8, 3), 8, "type 3"},
         {"reserved", with<std::uint8_t>(name, 9, 1), 9, "reserved0 0x1"},
         {"no name", with<std::uint16_t>(name, 10, 0), 10, "0 bytes"},
         {"layer with slash", with<std::uint8_t>(name, 8, 1), 13, "a slash"},
         {"nul", with<std::uint8_t>(name, 12, 0), 12, "a NUL byte"}},
        {{1, kName, 256}, {0, kName, 0}, {0, kName, 1ull << 63}, {0, kDigest, 256}});
  CHECK(parse_name({0, kName, 256},
                   bytes_of(encode_name({6, NameType::kImage, std::string(1023, 'i')}))));
  CHECK_FALSE(parse_name({0, kName, 256},
                         bytes_of(encode_name({6, NameType::kImage, std::string(1024, 'i')}))));
  CHECK_FALSE(parse_name({0, kName, 256},
                         bytes_of(encode_name({6, NameType::kLayer, std::string(256, 'i')}))));

  Digest digest{};
  for (std::uint8_t b = 0; b < 32; ++b) digest[b] = static_cast<std::uint8_t>(0xf0 + b);
  auto const d = encode_digest({digest, 6, NameType::kLayer});
  auto const key = digest_key(digest);
  CHECK(key == 0xf0f1f2f3f4f5f600);
  check(parser(parse_digest), {0, kDigest, key | 3}, d,
        {{"another digest", with<std::uint8_t>(d, 0, 1), 0, "at the key of another one"},
         {"id", with<std::uint64_t>(d, 0x20, 0), 0x20, "id 0"},
         {"type", with<std::uint8_t>(d, 0x28, 9), 0x28, "type 9"},
         {"reserved", with<std::uint8_t>(d, 0x2f, 1), 0x2f, "reserved byte is 0x1"}},
        {{1, kDigest, key}, {0, kDigest, key + 256}, {0, kName, key}});

  KeptCheckpoint k;
  k.generation = 9;
  k.root = {le64(100), le64(9), le32(7)};
  k.written_ns = -5;
  k.store_tree_blocks = 4;
  k.layer_count = 2;
  k.text = "layer rm web";
  auto const kept = encode_checkpoint(k);
  auto const back = parse_checkpoint({0, kCheckpoint, 9}, bytes_of(kept), kTotal);
  REQUIRE(back);
  CHECK(encode_checkpoint(*back) == kept);
  CHECK(back->text == "layer rm web");
  CHECK(back->written_ns == -5);
  // Its text reaches to the end of the value, so only the fixed part can be cut.
  std::vector<Damage> const damages{
      {"root outside", with<std::uint64_t>(kept, 0, kTotal - 3), 0, "outside the store"},
      {"root of the future", with<std::uint64_t>(kept, 8, 10), 8, "generation 10"},
      {"no root", with<std::uint64_t>(with<std::uint64_t>(kept, 8, 0), 0, 0), 0,
       "has no store tree"},
      {"reserved", with<std::uint32_t>(kept, 0x14, 1), 0x14, "reserved0 0x1"},
      {"no text", kept.substr(0, 0x40), 0x40, "0 bytes"},
      {"cut", kept.substr(0, 0x3f), 0x3f, "cut short"}};
  for (auto const& damage : damages) {
    CAPTURE(damage.name);
    auto const r = parse_checkpoint({0, kCheckpoint, 9}, bytes_of(damage.value), kTotal);
    REQUIRE_FALSE(r);
    CHECK(r.error().offset == damage.offset);
    CHECK(r.error().message.find(damage.text) != std::string::npos);
  }
  for (Key const& wrong :
       {Key{1, kCheckpoint, 9}, Key{0, kCheckpoint, 0}, Key{0, kCheckpoint, 8}, Key{0, kName, 9}})
    CHECK_FALSE(parse_checkpoint(wrong, bytes_of(kept), kTotal));
  k.text = std::string(5000, 't');
  CHECK(
      parse_checkpoint({0, kCheckpoint, 9}, bytes_of(encode_checkpoint(k)), kTotal)->text.size() ==
      kMaxKeptText);

  auto const tree = encode_tree_digest(digest);
  CHECK(*parse_tree_digest({6, kTreeDigest, 0}, bytes_of(tree)) == digest);
  check(parser(parse_tree_digest), {6, kTreeDigest, 0}, tree,
        {{"algorithm", with<std::uint32_t>(tree, 0x20, 2), 0x20, "algorithm 2"},
         {"reserved", with<std::uint32_t>(tree, 0x24, 1), 0x24, "reserved0 0x1"}},
        {{0, kTreeDigest, 0}, {6, kTreeDigest, 1}, {6, kLayer, 0}});
}

TEST_CASE("digests: text and back; what is none is refused") {
  Digest d{};
  d[0] = 0xab;
  auto const text = digest_text(d);
  CHECK(text == "sha256:ab" + std::string(62, '0'));
  CHECK(*parse_digest_text(text) == d);
  CHECK(*parse_digest_text(digest_hex(d)) == d);
  for (auto const& bad :
       {std::string(), std::string("sha256:"), std::string(63, '0'), std::string(65, '0'),
        "sha512:" + digest_hex(d), std::string(64, 'A'), std::string(64, 'g')})
    CHECK_FALSE(parse_digest_text(bad));
}

TEST_CASE("hashes: the published vectors, and keys in their ranges") {
  std::string const digits = "123456789";
  CHECK(crc32c(bytes_of(digits)) == 0xe3069283u);
  std::array<std::uint8_t, 16> seed{};
  std::string in;
  for (std::uint8_t i = 0; i < 16; ++i) seed[i] = i;
  CHECK(siphash24(seed, bytes_of(in)) == 0x726fdb47dd0e0e31ull);
  for (char c = 0; c < 15; ++c) in += c;
  CHECK(siphash24(seed, bytes_of(in)) == 0xa129ca6149be45e5ull);
  for (int i = 0; i < 1000; ++i) {
    auto const name = std::to_string(i);
    auto const k = name_key(seed, name);
    CHECK((k >= kFirstNameKey && k < 1ull << 63 && k % kProbes == 0));
    CHECK(xattr_key(seed, name) % 65536 == 0);
  }
  CHECK(parent_key(seed, 1, "x") != parent_key(seed, 2, "x"));
}
