// SPDX-License-Identifier: Apache-2.0
// fsck against stores made by a writer of the tests' own: sound ones give no finding, and each rule
// that is broken on purpose is found, named, and located.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "engine/store.h"
#include "format/hash.h"
#include "fsck/check.h"
#include "tests/support/kept_image.h"
#include "tests/support/raw_store.h"
#include "tests/support/support.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

std::string noise(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::string s(size, '\0');
  for (auto& c : s) c = static_cast<char>(random() | 1);
  return s;
}

struct Sample {
  RawStore s;
  std::uint64_t base = 0, child = 0, clone = 0, image = 0;
  std::uint64_t etc = 0, big = 0, small = 0, link = 0, sub = 0, orphan = 0;

  // damage: changes the base's records before they are written; then the base stays the only layer.
  explicit Sample(void (*damage)(Sample&) = nullptr) {
    base = s.add_layer("base", 0);
    etc = s.dir(base, s.root(base), "etc");
    sub = s.dir(base, etc, "sub");
    big =
        s.file(base, etc, "big", noise(3 * 4096 + 5, 1) + std::string(9000, '\0') + noise(5000, 2));
    small = s.file(base, sub, "small", "hello");
    s.link(base, small, etc, "hard");
    link = s.symlink(base, etc, "link", "sub/small");
    s.xattr(base, big, "user.a", noise(7000, 3));
    s.xattr(base, big, "user.b", "");
    for (int i = 0; i < 40; ++i)
      s.file(base, sub, "f" + std::to_string(i), i % 2 != 0 ? std::string("x") : noise(5000, 9));
    auto& info = s.layer(base).info;
    info.has_digests = true;
    info.chain_id.fill(0x11);
    info.diff_id.fill(0x22);
    if (damage != nullptr) damage(*this);
    s.seal_layer(base);
    s.freeze(base);
    image = s.add_image("test:1", base, noise(9000, 5), "the manifest");
    if (damage != nullptr) return;

    child = s.add_layer("child", base);
    s.file(child, etc, "new", noise(20000, 4));
    s.unlink(child, small, etc, "hard");
    orphan = s.orphan(child);
    s.seal_layer(child);
    clone = s.add_layer("clone", child);
  }
  fsck::Report check(fsck::Options const& options = {}) {
    auto r = fsck::check(s.device(), options);
    REQUIRE_MESSAGE(r.ok(), (r ? "" : r.error().text()));
    return *std::move(r);
  }
  Records& records(std::uint64_t layer) { return s.layer(layer).records; }
  // The one record of that kind whose value holds `text`.
  std::string& with(Records& records, Kind kind, std::string_view text, Key* key = nullptr) {
    for (auto& [k, v] : records)
      if (k.kind == kind && v.find(text) != std::string::npos) {
        if (key != nullptr) *key = k;
        return v;
      }
    FAIL("no such record: " << text);
    return records.begin()->second;
  }
};

std::string dump(fsck::Report const& r) {
  std::string out;
  for (auto const& f : r.findings)
    out += std::string(fsck::code_name(f.code)) + ": " + f.line() + "\n";
  return out;
}

template <class T>
T need(Result<T> result) {
  REQUIRE_MESSAGE(result.ok(), result.error().text());
  return *std::move(result);
}
template <class T>
void done(Result<T> const& result) {
  REQUIRE_MESSAGE(result.ok(), result.error().text());
}

bool has(fsck::Report const& r, fsck::Code code, std::string_view text, std::string_view layer = {},
         std::string_view path = {}) {
  return std::any_of(r.findings.begin(), r.findings.end(), [&](fsck::Finding const& f) {
    return f.code == code && f.text.find(text) != std::string::npos &&
           (layer.empty() || f.layer_name == layer) && (path.empty() || f.path == path);
  });
}

}  // namespace

TEST_CASE("fsck: a sound store gives no finding, and its blocks add up") {
  Sample t;
  t.s.seal();
  t.s.write();
  auto const r = t.check();
  keep_image(t.s.device(), "sound", "store");
  CHECK_MESSAGE(r.findings.empty(), dump(r));
  CHECK(r.clean());
  CHECK(r.in_force == 0);
  CHECK(r.counters.layers == 3);
  CHECK(r.counters.images == 1);
  auto const& c = r.counters;
  CHECK(c.total == c.reserved + c.store_tree + c.layer_nodes + c.layer_data + c.free);
  // Blocks of data: those of the base and the one file of the child; each is read once.
  CHECK(c.data_checked == c.layer_data);
  fsck::Options quick;
  quick.data = false;
  CHECK(t.check(quick).counters.data_checked == 0);
}

TEST_CASE("fsck: an empty store is clean; what is no store is an error, not a finding") {
  RawStore empty;
  empty.write();
  auto const r = fsck::check(empty.device(), {});
  REQUIRE(r);
  CHECK_MESSAGE(r->clean(), dump(*r));
  auto zero = make_memory_device(1 << 20);
  auto const none = fsck::check(*zero, {});
  REQUIRE_FALSE(none);
  CHECK(none.error().code == Errc::kInvalid);
}

TEST_CASE(
    "fsck: each rule of the files' trees that is broken is found, in its layer, at its path") {
  using fsck::Code;
  struct Case {
    char const* name;
    void (*damage)(Sample&);
    Code code;
    char const* text;
    char const* path;
  };
  static Case const kCases[] = {
      {"nlink",
       [](Sample& t) {
         auto i = t.s.inode(t.base, t.small);
         i.nlink = 5;
         t.s.set_inode(t.base, t.small, i);
       },
       Code::kLink, "nlink 5, but 2 entries", ""},
      {"directory nlink",
       [](Sample& t) {
         auto i = t.s.inode(t.base, t.etc);
         i.nlink = 9;
         t.s.set_inode(t.base, t.etc, i);
       },
       Code::kLink, "nlink 9", "/etc"},
      {"directory size",
       [](Sample& t) {
         auto i = t.s.inode(t.base, t.etc);
         i.size = 9;
         t.s.set_inode(t.base, t.etc, i);
       },
       Code::kCounter, "directory of size 9", "/etc"},
      {"blocks",
       [](Sample& t) {
         auto i = t.s.inode(t.base, t.big);
         i.blocks = 9;
         t.s.set_inode(t.base, t.big, i);
       },
       Code::kCounter, "blocks 9", "/etc/big"},
      {"entry type",
       [](Sample& t) {
         t.with(t.records(t.base), kDirent, "link")[offsetof(DirentRecord, type)] = 2;
       },
       Code::kLink, "entry says type 2", "/etc/link"},
      {"entry of no inode", [](Sample& t) { t.with(t.records(t.base), kDirent, "big")[0] = 127; },
       Code::kLink, "inode 127, which does not exist", "/etc/big"},
      {"no back reference",
       [](Sample& t) {
         Key key;
         t.with(t.records(t.base), kParent, "hard", &key);
         t.records(t.base).erase(key);
       },
       Code::kLink, "has no back reference", "/etc/hard"},
      {"no entry",
       [](Sample& t) {
         Key key;
         t.with(t.records(t.base), kDirent, "hard", &key);
         t.records(t.base).erase(key);
       },
       Code::kLink, "which has no such entry", ""},
      {"no inode record",
       [](Sample& t) {
         t.records(t.base).erase({t.big, kInode, 0});
       },
       Code::kInode, "without an inode record", "/etc/big"},
      {"name at a strange key",
       [](Sample& t) {
         Key key;
         auto const value = t.with(t.records(t.base), kDirent, "big", &key);
         t.records(t.base).erase(key);
         key.offset ^= 0x10000;
         t.records(t.base)[key] = value;
       },
       Code::kHash, "at the key of another name", "/etc"},
      {"name twice",
       [](Sample& t) {
         Key key;
         auto const value = t.with(t.records(t.base), kDirent, "big", &key);
         ++key.offset;
         t.records(t.base)[key] = value;
       },
       Code::kHash, "duplicate entry", "/etc"},
      {"circle of directories",
       [](Sample& t) {
         // etc hangs below sub, which hangs below etc.
         auto const& seed = t.s.superblock.hash_seed;
         t.s.unlink(t.base, t.etc, t.s.root(t.base), "etc");
         auto& r = t.records(t.base);
         auto info = t.s.inode(t.base, t.etc);
         (void)info;
         r[{t.sub, kDirent, name_key(seed, "etc")}] = encode_dirent({t.etc, 4, "etc"});
         r[{t.etc, kParent, parent_key(seed, t.sub, "etc")}] = encode_parent({t.sub, "etc"});
       },
       Code::kCycle, "contains itself", ""},
      {"orphan record of a living file",
       [](Sample& t) {
         t.records(t.base)[{0, kOrphan, t.big}] = "";
       },
       Code::kOrphan, "nlink is 1", "/etc/big"},
      {"nlink 0 without orphan record",
       [](Sample& t) {
         auto const n = t.s.orphan(t.base);
         t.records(t.base).erase({0, kOrphan, n});
       },
       Code::kOrphan, "no orphan record", ""},
      {"xattr piece missing",
       [](Sample& t) {
         std::erase_if(t.records(t.base), [](auto const& e) {
           return e.first.kind == kXattr && (e.first.offset & 255) == 1;
         });
       },
       Code::kXattr, "", "/etc/big"},
      {"xattr end missing",
       [](Sample& t) {
         std::erase_if(t.records(t.base), [](auto const& e) {
           return e.first.kind == kXattr && (e.first.offset & 255) == 2;
         });
       },
       Code::kXattr, "lacks its last 856 bytes", "/etc/big"},
      {"symlink without target",
       [](Sample& t) {
         t.records(t.base).erase({t.link, kInline, 0});
       },
       Code::kContent, "without a target", "/etc/link"},
      {"symlink cut short",
       [](Sample& t) {
         t.records(t.base)[{t.link, kInline, 0}] = "sub";
       },
       Code::kContent, "target of 3 bytes", "/etc/link"},
      {"inline data and extents",
       [](Sample& t) {
         t.records(t.base)[{t.big, kInline, 0}] = "x";
       },
       Code::kContent, "inline data", "/etc/big"},
      {"inline data beyond size",
       [](Sample& t) {
         t.records(t.base)[{t.small, kInline, 0}] = "too long";
       },
       Code::kContent, "8 bytes in a file of 5", ""},
      {"unknown kind",
       [](Sample& t) {
         t.records(t.base)[{t.big, 0x77, 0}] = "x";
       },
       Code::kRecord, "unknown kind 0x77", "/etc/big"},
      {"extents overlap in the file",
       [](Sample& t) {
         auto value = t.records(t.base).at({t.big, kExtent, 0});
         t.records(t.base)[{t.big, kExtent, 4096}] = value;
       },
       Code::kContent, "overlaps the one before", "/etc/big"},
      {"extents share blocks",
       [](Sample& t) {
         auto value = t.records(t.base).at({t.big, kExtent, 0});
         t.records(t.base)[{t.big, kExtent, 1 << 20}] = value;
       },
       Code::kTwice, "belong to both", "/etc/big"},
      {"extent of a stranger",
       [](Sample& t) {
         t.records(t.base).at({t.big, kExtent, 0})[offsetof(ExtentRecord, owner)] = 77;
       },
       Code::kOwner, "layer 77, which is not an ancestor", "/etc/big"},
      {"extent outside",
       [](Sample& t) {
         t.records(t.base).at({t.big, kExtent, 0})[offsetof(ExtentRecord, block) + 5] = 77;
       },
       Code::kRecord, "outside the store", "/etc/big"},
      {"wrong data checksum",
       [](Sample& t) {
         t.records(t.base).at({t.big, kExtent, 0})[sizeof(ExtentRecord) + 4] ^= 1;
       },
       Code::kData, "file offset 0x1000", "/etc/big"},
  };
  for (auto const& c : kCases) {
    CAPTURE(c.name);
    Sample t(c.damage);
    t.s.seal();
    t.s.write();
    auto const r = t.check();
    CHECK_MESSAGE(has(r, c.code, c.text, "base", c.path), dump(r));
    keep_image(t.s.device(), fsck::code_name(c.code), c.name);
    for (auto const& f : r.findings) CHECK_MESSAGE(f.offset != kNoOffset, f.line());
  }
}

TEST_CASE("fsck: each rule of the store tree that is broken is found") {
  using fsck::Code;
  struct Case {
    char const* name;
    void (*damage)(Sample&);  // after seal(), before write()
    Code code;
    char const* text;
  };
  static auto const change = [](Sample& t, std::uint64_t id, auto edit) {
    LayerInfo info = t.s.layer(id).info;
    edit(info);
    t.s.store_records[{id, kLayer, 0}] = encode_layer(info);
  };
  static auto const erase = [](Sample& t, Kind kind, std::string_view text) {
    Key key;
    t.with(t.s.store_records, kind, text, &key);
    t.s.store_records.erase(key);
  };
  static Case const kCases[] = {
      {"inodes", [](Sample& t) { change(t, t.base, [](LayerInfo& i) { ++i.inodes; }); },
       Code::kCounter, "inodes 47, but there are 46"},
      {"used_blocks", [](Sample& t) { change(t, t.child, [](LayerInfo& i) { ++i.used_blocks; }); },
       Code::kCounter, "used_blocks"},
      {"own_blocks", [](Sample& t) { change(t, t.child, [](LayerInfo& i) { ++i.own_blocks; }); },
       Code::kCounter, "own_blocks"},
      {"children", [](Sample& t) { change(t, t.base, [](LayerInfo& i) { ++i.children; }); },
       Code::kCounter, "children 2, but there are 1"},
      {"images", [](Sample& t) { change(t, t.base, [](LayerInfo& i) { ++i.images; }); },
       Code::kCounter, "images 2, but there are 1"},
      {"no parent", [](Sample& t) { change(t, t.child, [](LayerInfo& i) { i.parent = 99; }); },
       Code::kGraph, "parent 99 does not exist"},
      {"open parent",
       [](Sample& t) {
         change(t, t.base, [](LayerInfo& i) {
           i.state = LayerState::kOpen;
           i.children = 0;
         });
       },
       Code::kGraph, "is not frozen"},
      {"circle", [](Sample& t) { change(t, t.base, [&](LayerInfo& i) { i.parent = t.child; }); },
       Code::kGraph, "circle"},
      {"name missing", [](Sample& t) { erase(t, kName, "child"); }, Code::kName,
       "not in the name table"},
      {"image name missing", [](Sample& t) { erase(t, kName, "test:1"); }, Code::kName,
       "not in the name table"},
      {"name not on the image", [](Sample& t) { erase(t, kImageName, "test:1"); }, Code::kName,
       "which does not have it"},
      {"name of nobody", [](Sample& t) { t.with(t.s.store_records, kName, "child")[0] = 99; },
       Code::kName, "which does not exist"},
      {"digest missing", [](Sample& t) { erase(t, kDigest, "\x11\x11"); }, Code::kDigest,
       "not in the digest table"},
      {"digest of nobody",
       [](Sample& t) { t.with(t.s.store_records, kDigest, "\x11\x11")[0x20] = 99; }, Code::kDigest,
       "does not have it"},
      {"manifest",
       [](Sample& t) { t.with(t.s.store_records, kBlob, "the manifest") = "another one."; },
       Code::kBlob, "manifest is sha256:"},
      {"piece of config",
       [](Sample& t) {
         t.s.store_records.erase({t.image, kBlob, 1ull << 32 | 1});
       },
       Code::kBlob, "expected chunk 1 of"},
      {"whole config",
       [](Sample& t) {
         std::erase_if(t.s.store_records, [](auto const& e) {
           return e.first.kind == kBlob && e.first.offset >> 32 == 1;
         });
       },
       Code::kBlob, "config of 9000 bytes is missing"},
      {"top layer",
       [](Sample& t) {
         t.s.store_records.at({t.image, kImage, 0})[0x40] = 88;
       },
       Code::kGraph, "does not exist"},
      {"layer_count",
       [](Sample& t) {
         t.s.store_records.at({t.image, kImage, 0})[0x48] = 8;
       },
       Code::kGraph, "layer_count 8"},
      {"superblock layer_count", [](Sample& t) { --t.s.superblock.layer_count; }, Code::kCounter,
       "layer_count 2, but there are 3"},
      {"superblock layer_blocks", [](Sample& t) { --t.s.superblock.layer_blocks; }, Code::kCounter,
       "layer_blocks"},
      {"next_inode", [](Sample& t) { t.s.superblock.next_inode = 5; }, Code::kCounter,
       "next_inode 5"},
      {"unknown kind",
       [](Sample& t) {
         t.s.store_records[{1, 0x7f, 0}] = "";
       },
       Code::kRecord, "unknown kind 0x7f"},
      {"run too long",
       [](Sample& t) {
         auto it = t.s.store_records.lower_bound({t.child, kRun, ~0ull});
         --it;  // the last run of the child: behind it is free space
         auto run = *parse_run(it->first, bytes_of(it->second), 4096);
         run.count += 3;
         it->second = encode_run(run);
         t.s.allocate(3);
       },
       Code::kRun, "+3 are in a run of the layer, but nothing uses them"},
      {"run missing",
       [](Sample& t) {
         auto it = t.s.store_records.lower_bound({t.child, kRun, ~0ull});
         t.s.store_records.erase(--it);
       },
       Code::kRun, "in no run of the layer"},
      {"run of another layer's blocks",
       [](Sample& t) {
         auto it = t.s.store_records.lower_bound({t.base, kRun, 0});
         t.s.store_records[{t.child, kRun, it->first.offset}] =
             encode_run({t.child, it->first.offset, 1});
       },
       Code::kSpace, "are also owned by layer"},
      {"run of nobody",
       [](Sample& t) {
         t.s.store_records[{77, kRun, 4000}] = encode_run({77, 4000, 1});
       },
       Code::kRun, "layer 77, which does not exist"},
  };
  for (auto const& c : kCases) {
    CAPTURE(c.name);
    Sample t;
    t.s.seal();
    c.damage(t);
    t.s.write();
    auto const r = t.check();
    CHECK_MESSAGE(has(r, c.code, c.text), dump(r));
    keep_image(t.s.device(), fsck::code_name(c.code), c.name);
  }
}

TEST_CASE("fsck: each way in which superblocks, nodes and kept checkpoints are damaged is found") {
  using fsck::Code;
  struct Case {
    char const* name;
    void (*before)(Sample&);  // after seal(), before write()
    void (*after)(Sample&);
    Code code;
    char const* text;
  };
  static auto const block_of = [](SuperblockInfo const& info) {
    std::string block(kBlockSize, '\0');
    encode_superblock(info, std::span<std::byte, kBlockSize>(
                                reinterpret_cast<std::byte*>(block.data()), kBlockSize));
    return block;
  };
  // A later checkpoint with the same tree, in the other slot.
  static auto const put_newer = [](Sample& t, auto edit) {
    auto newer = t.s.superblock;
    newer.slot = 1;
    newer.generation = 2;
    edit(newer);
    t.s.put(kSlotBlock[1] * kBlockSize, block_of(newer));
  };
  static auto const put_kept = [](Sample& t, std::uint64_t generation, NodePtr root) {
    KeptCheckpoint k;
    k.generation = generation;
    k.root = root;
    k.text = "layer rm web";
    t.s.store_records[{0, kCheckpoint, generation}] = encode_checkpoint(k);
  };
  static auto const nothing = [](Sample&) {};
  // A leaf of the child that the base has too, or has not.
  static auto const leaf = [](Sample& t, bool inherited) {
    auto const& parents = t.s.layer(t.base).leaves;
    for (auto const& l : t.s.layer(t.child).leaves) {
      if (std::any_of(parents.begin(), parents.end(),
                      [&](auto const& p) { return p.ptr == l.ptr; }) == inherited)
        return l.ptr.block.get() * kBlockSize;
    }
    FAIL("no such leaf");
    return std::uint64_t{0};
  };
  static Case const kCases[] = {
      {"damaged newer slot", nothing,
       [](Sample& t) {
         put_newer(t, [](SuperblockInfo&) {});
         t.s.flip(kSlotBlock[1] * kBlockSize + 0x98);
       },
       Code::kSuperblock, "slot 1: checksum"},
      {"damaged older slot", nothing,
       [](Sample& t) {
         put_newer(t, [](SuperblockInfo&) {});
         t.s.flip(kSlotBlock[0] * kBlockSize + 0x98);
       },
       Code::kSuperblock, "slot 0: checksum"},
      {"one generation twice", nothing,
       [](Sample& t) { put_newer(t, [](SuperblockInfo& i) { i.generation = 1; }); },
       Code::kSuperblock, "generation"},
      {"bytes between the slots", nothing,
       [](Sample& t) { t.s.put(3 * kBlockSize, "left by somebody"); }, Code::kReserved, "not zero"},
      {"inherited leaf", nothing, [](Sample& t) { t.s.flip(leaf(t, true) + 5000); }, Code::kShared,
       ""},
      {"leaf", nothing, [](Sample& t) { t.s.flip(leaf(t, false) + 5000); }, Code::kNode,
       "checksum"},
      {"leaf of another place", nothing,
       [](Sample& t) { t.s.put(leaf(t, false), t.s.read(leaf(t, true), kNodeSize)); }, Code::kNode,
       ""},
      {"leaf of zeroes", nothing,
       [](Sample& t) { t.s.put(leaf(t, false), std::string(kNodeSize, '\0')); }, Code::kNode, ""},
      {"store tree", nothing,
       [](Sample& t) { t.s.flip(t.s.store_nodes.front() * kBlockSize + 5000); }, Code::kNode,
       "checksum"},
      {"checkpoint that is not over", [](Sample& t) { put_kept(t, 7, {}); }, nothing,
       Code::kHistory, "is not finished"},
      {"tree of a kept checkpoint",
       [](Sample& t) {
         t.s.superblock.generation = 5;
         put_kept(t, 2, t.s.layer(t.child).leaves.front().ptr);
       },
       nothing, Code::kHistory, ""},
  };
  for (auto const& c : kCases) {
    CAPTURE(std::string(c.name));
    Sample t;
    t.s.seal();
    c.before(t);
    t.s.write();
    c.after(t);
    auto const r = t.check();
    CHECK_MESSAGE(has(r, c.code, c.text), dump(r));
    keep_image(t.s.device(), fsck::code_name(c.code), c.name);
  }
}

TEST_CASE("fsck: every byte of every block in use matters; damage is found where it is") {
  Sample t;
  t.s.seal();
  t.s.write();
  std::mt19937 random(1);
  // Blocks in use: runs of all layers, nodes of the store tree.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> used;
  for (auto const& [key, value] : t.s.store_records)
    if (key.kind == kRun)
      used.emplace_back(key.offset, parse_run(key, bytes_of(value), 4096)->count);
  for (auto const block : t.s.store_nodes) used.emplace_back(block, kNodeBlocks);
  for (int i = 0; i < 300; ++i) {
    auto const& [start, count] = used[random() % used.size()];
    auto const at = start * kBlockSize + random() % (count * kBlockSize);
    CAPTURE(at);
    auto const bits = static_cast<std::uint8_t>(1u << random() % 8);
    t.s.flip(at, bits);
    auto const r = t.check();
    CHECK_FALSE(r.clean());
    bool near = false;
    for (auto const& f : r.findings)
      near = near || (f.offset != kNoOffset && f.offset / kNodeSize + 2 > at / kNodeSize &&
                      f.offset / kNodeSize < at / kNodeSize + 2);
    CHECK_MESSAGE(near, dump(r));
    t.s.flip(at, bits);
  }
  CHECK(t.check().clean());
}

TEST_CASE("fsck: a damaged node is told once, and every layer that shares it is named") {
  Sample t;
  t.s.seal();
  t.s.write();
  std::uint64_t shared = 0;
  for (auto const& b : t.s.layer(t.base).leaves)
    for (auto const& c : t.s.layer(t.child).leaves)
      if (b.ptr == c.ptr) shared = b.ptr.block.get();
  REQUIRE(shared != 0);
  t.s.flip(shared * kBlockSize + 5000);
  auto const r = t.check();
  CHECK(std::count_if(r.findings.begin(), r.findings.end(),
                      [](auto const& f) { return f.code == fsck::Code::kNode; }) == 1);
  CHECK_MESSAGE(has(r, fsck::Code::kNode, "checksum", "base"), dump(r));
  CHECK_MESSAGE(has(r, fsck::Code::kShared, "", "child"), dump(r));
  CHECK_MESSAGE(has(r, fsck::Code::kShared, "", "clone"), dump(r));
}

TEST_CASE(
    "fsck: superblocks: the greater generation is in force, a damaged slot is told, two stores in "
    "one are told") {
  auto const make = [](Sample& t) {
    t.s.seal();
    t.s.write();
    // The other slot: a later checkpoint that happens to have the same tree.
    auto newer = t.s.superblock;
    newer.slot = 1;
    newer.generation = 2;
    std::string block(kBlockSize, '\0');
    encode_superblock(newer, std::span<std::byte, kBlockSize>(
                                 reinterpret_cast<std::byte*>(block.data()), kBlockSize));
    t.s.put(8 * kBlockSize, block);
    return newer;
  };
  {
    Sample t;
    make(t);
    auto const r = t.check();
    CHECK_MESSAGE(r.clean(), dump(r));
    CHECK(r.in_force == 1);
    t.s.flip(8 * kBlockSize + 0x98);
    auto const damaged = t.check();
    CHECK(damaged.in_force == 0);
    CHECK(damaged.slots[1].state == fsck::SlotState::kDamaged);
    CHECK_MESSAGE(has(damaged, fsck::Code::kSuperblock, "slot 1: checksum"), dump(damaged));
    t.s.flip(0x98);
    auto const none = t.check();
    CHECK_FALSE(none.in_force);
    CHECK_FALSE(none.clean());
  }
  {
    Sample t;
    auto newer = make(t);
    newer.uuid[15] ^= 1;  // the nodes know the first 8 bytes only
    std::string block(kBlockSize, '\0');
    encode_superblock(newer, std::span<std::byte, kBlockSize>(
                                 reinterpret_cast<std::byte*>(block.data()), kBlockSize));
    t.s.put(8 * kBlockSize, block);
    auto const r = t.check();
    CHECK_MESSAGE(has(r, fsck::Code::kSuperblock, "two stores"), dump(r));
  }
}

TEST_CASE("fsck: a superblock that is read while it is being written is read again") {
  struct Torn final : SharedDevice {
    using SharedDevice::SharedDevice;
    Status read(std::uint64_t at, std::span<std::byte> into) override {
      LCFS_TRY(below_->read(at, into));
      if (at == 0 && torn > 0) {
        --torn;
        into[kSlotBlock[1] * kBlockSize + 0x40] ^= std::byte{1};
      }
      return {};
    }
    int torn = 0;
  };
  std::shared_ptr<Device> below = make_memory_device(std::uint64_t{16} << 20);
  must(Store::format(*below, {}));
  must(must(Store::open(std::make_unique<SharedDevice>(below), {}))->checkpoint());
  Torn device(below);
  for (int const torn : {0, 1, 2}) {
    device.torn = torn;
    auto const report = must(fsck::check(device, {}));
    CHECK(report.clean());
    CHECK(report.notes == 0);
  }
  device.torn = 100;
  CHECK(!must(fsck::check(device, {})).clean());
}

TEST_CASE(
    "fsck: stores that the engine writes are clean, layer by layer, closed or left as a crash "
    "leaves them") {
  TempDir const dir;
  auto const path = dir.file("store.lcfs");
  auto const open = [&] {
    auto device = need(open_device(path, Access::kReadWrite));
    return need(Store::open(std::move(device), {}));
  };
  auto const clean = [&](std::uint64_t layers) {
    auto const device = need(open_device(path, Access::kReadOnly));
    auto const r = need(fsck::check(*device, {}));
    CHECK_MESSAGE(r.findings.empty(), dump(r));
    CHECK(r.counters.layers == layers);
    auto const& c = r.counters;
    CHECK(c.total ==
          c.reserved + c.store_tree + c.layer_nodes + c.layer_data + c.dying + c.history + c.free);
  };
  {
    auto const device = need(create_file_device(path, 128ull << 20));
    done(Store::format(*device, {}));
  }
  clean(0);
  std::mt19937 random(1);
  LayerId top = 0;
  for (std::uint64_t round = 0; round < 5; ++round) {
    CAPTURE(round);
    {
      auto store = open();
      top = need(store->create_layer("layer" + std::to_string(round), top));
      auto layer = need(store->layer(top));
      std::vector<Inode> dirs{layer->root()};
      for (int i = 0; i < 200; ++i) {
        auto const at = dirs[random() % dirs.size()];
        auto const name = fmt::format("n{}_{}", round, i);
        auto const kind = random() % 6;
        if (kind == 0)
          dirs.push_back(need(layer->create(at, name, {S_IFDIR | 0755, 1, 2, 0})).inode);
        if (kind == 1) done(layer->symlink(at, name, "to/" + name, {S_IFLNK | 0777, 0, 0, 0}));
        if (kind == 2) done(layer->create(at, name, {S_IFCHR | 0600, 0, 0, 5ull << 32 | 1}));
        if (kind < 3) continue;
        auto const inode = need(layer->create(at, name, {S_IFREG | 0644, 0, 0, 0})).inode;
        auto const data =
            noise(random() % (random() % 2 != 0 ? 3000 : 60000), static_cast<unsigned>(random()));
        done(layer->write(inode, random() % 3 == 0 ? random() % 100000 : 0, bytes_of(data)));
        if (kind == 3) done(layer->link(inode, layer->root(), name + "-hard"));
        if (kind == 4)
          done(layer->setxattr(inode, "user.x", std::string(random() % 20000, 'x'),
                               XattrMode::kAny));
        SetAttr cut;
        cut.size = random() % 50000;
        if (random() % 4 == 0) done(layer->setattr(inode, cut));
        if (random() % 8 == 0)
          done(layer->allocate(inode, Allocate::kKeepSize, random() % 100000, 50000));
        if (random() % 8 == 0)
          done(layer->allocate(inode, Allocate::kPunchHole, random() % 10000, 9000));
      }
      // And what was inherited: removed, renamed, written to.
      std::vector<DirEntry> entries;
      done(layer->readdir(layer->root(), 0,
                          [&](DirEntry const& e) { return entries.push_back(e), true; }));
      for (auto const& e : entries) {
        auto const what = random() % 6;
        if (e.type == S_IFDIR >> 12) continue;
        if (what == 0) done(layer->unlink(layer->root(), e.name));
        if (what == 1)
          done(layer->rename(layer->root(), e.name, dirs.back(), e.name + "-moved",
                             Rename::kReplace));
        if (what == 2 && e.type == S_IFREG >> 12)
          done(layer->write(e.inode, random() % 40000, bytes_of(noise(random() % 9000, 7))));
      }
      auto const unnamed = need(layer->tmpfile({S_IFREG | 0600, 0, 0, 0}));
      done(layer->open(unnamed.inode));
      done(layer->write(unnamed.inode, 0, bytes_of("hello")));
      done(store->checkpoint());
      layer.reset();
      if (round % 2 == 1) done(store->close());
    }
    clean(round + 1);
  }
  done(open()->remove_layer(top));
  clean(4);
}
