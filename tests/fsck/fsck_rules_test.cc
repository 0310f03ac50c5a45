// SPDX-License-Identifier: Apache-2.0
// Each rule of doc/format.md that is broken on purpose is found by fsck, named, and located.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cstring>

#include "format/hash.h"
#include "fsck/check.h"
#include "tests/fsck/sample_store.h"
#include "tests/support/kept_image.h"
#include "tests/support/raw_store.h"
#include "tests/support/support.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

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
