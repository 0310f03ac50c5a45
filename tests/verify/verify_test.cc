// SPDX-License-Identifier: Apache-2.0
// Verify, the digest of a tree, and why: against what was done to make them.
#include "verify/verify.h"

#include <dirent.h>
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <functional>
#include <map>

#include "engine/import.h"
#include "engine/store/store_impl.h"
#include "exporter/diff_id.h"
#include "importer/import.h"
#include "tests/support/importing.h"
#include "tests/support/support.h"
#include "tests/support/tar_builder.h"
#include "tests/support/test_store.h"
#include "verify/tree_digest.h"
#include "verify/why.h"

using namespace lcfs;
using namespace lcfs::verify;
using lcfs::test::bytes_of;
using lcfs::test::must;
using lcfs::test::SharedDevice;
using lcfs::test::TestStore;

namespace {

constexpr Timestamp kThen{1'000'000, 123'456'789};

// Something with every kind of file in it; `order` changes how it is made, never what it is.
void plant(Layer& layer, bool backwards) {
  auto const root = layer.root();
  std::vector<std::function<void()>> steps;
  auto const file = [&](Inode dir, std::string const& name, std::string const& data) {
    Inode const inode = must(layer.create(dir, name, {S_IFREG | 0640, 1, 2})).inode;
    if (backwards) {  // the same bytes in pieces, from behind
      for (std::size_t at = data.size(); at > 0;) {
        std::size_t const n = std::min<std::size_t>(at, 5000);
        at -= n;
        must(layer.write(inode, at, bytes_of(data).subspan(at, n)));
      }
    } else if (!data.empty()) {
      must(layer.write(inode, 0, bytes_of(data)));
    }
    return inode;
  };
  Inode const etc = must(layer.create(root, "etc", {S_IFDIR | 0755})).inode;
  steps.emplace_back([&] { file(etc, "motd", "hello\n"); });
  steps.emplace_back([&] { file(etc, "empty", ""); });
  steps.emplace_back([&] {
    std::string sparse(500'000, '\0');
    sparse[300'000] = 'x';
    file(etc, "sparse", sparse);
  });
  steps.emplace_back([&] {
    Inode const big = file(root, "big", std::string(300'000, 'b'));
    must(layer.link(big, etc, "again"));
    must(layer.setxattr(big, "user.b", "2", XattrMode::kAny));
    must(layer.setxattr(big, "user.a", "1", XattrMode::kAny));
  });
  steps.emplace_back([&] { must(layer.symlink(etc, "link", "../big", {S_IFLNK | 0777})); });
  steps.emplace_back([&] {
    must(layer.create(etc, "null", {S_IFCHR | 0666, 0, 0, (1ull << 32) | 3}));
  });
  if (backwards) std::reverse(steps.begin(), steps.end());
  for (auto const& step : steps) step();
  if (backwards) {  // and something that comes and goes
    file(root, "gone", "x");
    must(layer.unlink(root, "gone"));
  }
  // Every inode has the same times.
  std::vector<Inode> todo{root};
  while (!todo.empty()) {
    Inode const at = todo.back();
    todo.pop_back();
    must(layer.readdir(at, 0, [&](DirEntry const& e) {
      if (e.type == DT_DIR)
        todo.push_back(e.inode);
      else
        must(layer.setattr(e.inode, {.mtime = kThen}));
      return true;
    }));
    must(layer.setattr(at, {.mtime = kThen}));
  }
}

Digest digest_of(Store& store, LayerId id) { return must(compute_tree_digest(store, id, {})); }

std::vector<Damage> damages(Store& store, std::vector<LayerId> ids,
                            std::vector<VerifiedLayer>* layers = nullptr,
                            VerifyOptions options = {}) {
  std::vector<Damage> out;
  auto done = must(
      verify_layers(store, std::move(ids), options, [&out](Damage const& d) { out.push_back(d); }));
  if (layers != nullptr) *layers = std::move(done);
  return out;
}

void flip(TestStore& store, std::uint64_t at) {
  AlignedBuffer block(kBlockSize);
  std::uint64_t const from = at / kBlockSize * kBlockSize;
  must(store.device()->read(from, block.span()));
  block.data()[at - from] ^= std::byte{0x10};
  must(store.device()->write(from, std::span<std::byte const>(block.span())));
}

LayerInfo import_layer(Store& store, std::string tar) {
  must(test::import_layers(store, {test::plain_layer(std::move(tar))}));
  return must(store.layer_info(must(store.resolve_layer("test"))));
}

// As the program verifies.
VerifiedLayer verify_with_diff_id(Store& store, LayerId id, std::vector<Damage>* found = nullptr) {
  VerifyOptions options;
  options.diff_id = [](Store& from, LayerInfo const& info) {
    return exporter::makes_its_diff_id(from, info, nullptr);
  };
  std::vector<VerifiedLayer> layers;
  auto damage = damages(store, {id}, &layers, options);
  if (found != nullptr) *found = std::move(damage);
  return layers.at(0);
}

// Changes bytes that stand in the layer's one node, and makes all checksums right again, as a
// writer gone wrong would.
void rewrite_small_file(TestStore& store, LayerInfo info, std::string const& from,
                        std::string const& to) {
  AlignedBuffer node(kNodeSize);
  auto const at = info.root.block.get() * kBlockSize;
  must(store.device()->read(at, node.span()));
  std::string_view const text(reinterpret_cast<char const*>(node.data()), kNodeSize);
  auto const found = text.find(from);
  REQUIRE(found != std::string_view::npos);
  std::copy(to.begin(), to.end(), reinterpret_cast<char*>(node.data()) + found);
  info.root.checksum.set(seal_node(node.span()));
  must(store.device()->write(at, std::span<std::byte const>(node.span())));
  auto& impl = inside(*store);
  {
    WriteLock lock(impl.catalog.mutex());
    must(impl.catalog.tree.change(Urgency::kOrdinary, 0, [&]() LCFS_REQUIRES(structure) {
      return impl.catalog.layers.put(info);
    }));
  }
  must(store->checkpoint());
  store.reopen();
}

}  // namespace

TEST_CASE("digest: equal trees have equal digests however they were made, in whatever store") {
  TestStore one, two;
  LayerId const a = must(one->create_layer("a", 0));
  plant(*must(one->layer(a)), false);
  // Elsewhere: in another order, over a parent with other things in it, and committed on the way.
  LayerId const base = must(two->create_layer("base", 0));
  must(must(two->layer(base))->create(must(two->layer(base))->root(), "noise", {S_IFDIR | 0700}));
  LayerId b = must(two->create_layer("b", base));
  {
    auto const layer = must(two->layer(b));
    must(layer->rmdir(layer->root(), "noise"));
    plant(*layer, true);
    b = must(two->commit_layer(b, "half"));
  }
  CHECK(digest_of(*one, a) == digest_of(*two, b));
  CHECK(digest_of(*one, a) == digest_of(*two, must(two->find_layer("half")).id));
  CHECK(digest_of(*one, a) != digest_of(*two, base));
}

TEST_CASE("digest: whatever is part of a tree changes it, and nothing else does") {
  TestStore store;
  LayerId const a = must(store->create_layer("a", 0));
  plant(*must(store->layer(a)), false);
  must(store->freeze_layer(a));
  Digest const digest = digest_of(*store, a);
  auto const find = [](Layer& l, std::string const& name) {
    return must(l.lookup(must(l.lookup(l.root(), "etc")).inode, name)).inode;
  };
  std::map<std::string, std::function<void(Layer&)>> const changes{
      {"mode", [&](Layer& l) { must(l.setattr(find(l, "motd"), {.permissions = 0600})); }},
      {"uid", [&](Layer& l) { must(l.setattr(find(l, "motd"), {.uid = 9})); }},
      {"gid", [&](Layer& l) { must(l.setattr(find(l, "motd"), {.gid = 9})); }},
      {"mtime",
       [&](Layer& l) {
         must(l.setattr(find(l, "motd"), {.mtime = Timestamp{1'000'000, 123'456'788}}));
       }},
      {"size",
       [&](Layer& l) { must(l.setattr(find(l, "sparse"), {.size = 500'001, .mtime = kThen})); }},
      {"content",
       [&](Layer& l) {
         must(l.write(find(l, "motd"), 1, bytes_of("E")));
         must(l.setattr(find(l, "motd"), {.mtime = kThen}));
       }},
      {"place of content",
       [&](Layer& l) {
         must(l.write(find(l, "sparse"), 300'000, bytes_of(std::string(1, '\0'))));
         must(l.write(find(l, "sparse"), 300'000 + 4096, bytes_of("x")));
         must(l.setattr(find(l, "sparse"), {.mtime = kThen}));
       }},
      {"xattr",
       [&](Layer& l) { must(l.setxattr(find(l, "again"), "user.a", "3", XattrMode::kAny)); }},
      {"name",
       [&](Layer& l) {
         Inode const etc = must(l.lookup(l.root(), "etc")).inode;
         must(l.rename(etc, "motd", etc, "motd2", Rename::kReplace));
         must(l.setattr(etc, {.mtime = kThen}));
       }},
      {"hard link",
       [&](Layer& l) {  // the same bytes in a file of its own
         Inode const etc = must(l.lookup(l.root(), "etc")).inode;
         must(l.unlink(etc, "again"));
         Inode const copy = must(l.create(etc, "again", {S_IFREG | 0640, 1, 2})).inode;
         must(l.write(copy, 0, bytes_of(std::string(300'000, 'b'))));
         must(l.setxattr(copy, "user.a", "1", XattrMode::kAny));
         must(l.setxattr(copy, "user.b", "2", XattrMode::kAny));
         must(l.setattr(copy, {.mtime = kThen}));
         must(l.setattr(etc, {.mtime = kThen}));
       }},
      {"target",
       [&](Layer& l) {
         Inode const etc = must(l.lookup(l.root(), "etc")).inode;
         must(l.unlink(etc, "link"));
         must(l.setattr(must(l.symlink(etc, "link", "../bug", {S_IFLNK | 0777})).inode,
                        {.mtime = kThen}));
         must(l.setattr(etc, {.mtime = kThen}));
       }},
  };
  for (auto const& each : changes) {
    auto const& what = each.first;
    CAPTURE(what);
    LayerId const id = must(store->create_layer("x", a));
    auto layer = must(store->layer(id));
    CHECK(digest_of(*store, id) == digest);
    must(layer->setattr(find(*layer, "motd"), {.atime = Timestamp{5, 0}}));  // no part of it
    CHECK(digest_of(*store, id) == digest);
    each.second(*layer);
    CHECK(digest_of(*store, id) != digest);
    layer.reset();
    must(store->remove_layer(id));
  }
}

TEST_CASE("digest: recorded once, with a frozen layer only, and gone with it") {
  TestStore store;
  LayerId const a = must(store->create_layer("a", 0));
  plant(*must(store->layer(a)), false);
  Digest const open = must(tree_digest(*store, a, {}));
  CHECK(!must(store->tree_digest(a)));
  CHECK(store->set_tree_digest(a, open).error().code == Errc::kInvalid);
  must(store->freeze_layer(a));
  CHECK(must(tree_digest(*store, a, {})) == open);
  CHECK(must(store->tree_digest(a)) == open);
  store.reopen();
  CHECK(must(store->tree_digest(a)) == open);
  store.check();
  must(store->remove_layer(a));
  store.check();
}

TEST_CASE("verify: sound layers are read whole, shared parts once") {
  TestStore store;
  LayerId const a = must(store->create_layer("a", 0));
  plant(*must(store->layer(a)), false);
  LayerId const b = must(store->create_layer("b", a));
  must(must(store->layer(b))->create(must(store->layer(b))->root(), "more", {S_IFREG | 0644}));
  std::vector<VerifiedLayer> layers;
  CHECK(damages(*store, {b, a, b}, &layers).empty());
  REQUIRE(layers.size() == 2);
  CHECK(layers[0].data_blocks == 74 + 1);  // big, and one block of sparse; the rest is inline
  CHECK(layers[1].data_blocks == 0);
  CHECK(layers[1].nodes >= 1);
  CHECK(layers[0].digest == VerifiedLayer::kNotChecked);
  VerifyOptions record;
  record.record = true;
  CHECK(damages(*store, {a}, &layers, record).empty());
  CHECK(must(store->tree_digest(a)) == layers[0].tree);
  CHECK(damages(*store, {a}, &layers).empty());
  CHECK(layers[0].digest == VerifiedLayer::kSame);
  must(store->set_tree_digest(a, Digest{1}));
  CHECK(damages(*store, {a}, &layers).empty());
  CHECK(layers[0].digest == VerifiedLayer::kDifferent);
}

TEST_CASE(
    "verify: a flipped bit of data or of a node is found, with its place, beneath a store in use") {
  for (bool const node : {false, true}) {
    CAPTURE(node);
    TestStore store;
    LayerId const a = must(store->create_layer("a", 0));
    plant(*must(store->layer(a)), false);
    LayerId const b = must(store->create_layer("b", a));
    auto const layer = must(store->layer(b));
    Inode const big = must(layer->lookup(layer->root(), "big")).inode;
    auto const runs = must(layer->runs(big));
    auto const root = must(store->layer_info(a)).root.block.get() * kBlockSize;
    std::uint64_t const at = node ? root + 5000 : runs[0].device_offset + 3 * kBlockSize + 17;
    flip(store, at);
    auto const found = damages(*store, {a, b});
    REQUIRE(found.size() == 1);
    CHECK(found[0].layer == a);
    if (!node) {
      CHECK((found[0].path == "/big" || found[0].path == "/etc/again"));
      CHECK(found[0].inode == big);
      CHECK(found[0].owner == a);
      CHECK(found[0].file_offset == 3 * kBlockSize);
      CHECK(found[0].device_offset == at / kBlockSize * kBlockSize);
    } else {
      CHECK(found[0].inode == 0);
      CHECK(found[0].device_offset == root);
    }
    flip(store, at);
    CHECK(damages(*store, {a, b}).empty());
  }
}

TEST_CASE(
    "verify: content that has right checksums and is not what was imported is told by the "
    "diff_id") {
  TestStore store;
  auto const tar = test::TarBuilder()
                       .file("small", "this is it")
                       .file("large", std::string(9000, 'l'))
                       .end()
                       .text();
  auto const info = import_layer(*store, tar);
  CHECK(verify_with_diff_id(*store, info.id).diff_id == VerifiedLayer::kSame);
  rewrite_small_file(store, info, "this is it", "it is this");
  std::vector<Damage> found;
  auto const layer = verify_with_diff_id(*store, info.id, &found);
  CHECK(layer.diff_id == VerifiedLayer::kDifferent);
  CHECK(layer.damaged == 0);
  CHECK(found.empty());
}

TEST_CASE(
    "verify: a tar whose skeleton can't be read is damage; what has no tar of its own is not "
    "checked") {
  TestStore store;
  auto const info = import_layer(*store, test::TarBuilder().file("a", "a").end().text());
  LayerId const clone = must(store->create_layer("clone", info.id));
  must(store->freeze_layer(clone));
  CHECK(verify_with_diff_id(*store, clone).diff_id == VerifiedLayer::kNotChecked);
  std::uint64_t at = 0;
  auto& impl = inside(*store);
  {
    ReadLock lock(impl.catalog.mutex());
    must(scan(impl.catalog.tree.read(), {0, 0, 0}, kMaxKey,
              [&](Key const& key, Bytes value) -> Result<bool> {
                if (key.kind == kSkeletonExtent)
                  at = must(parse_skeleton_extent(key, value, impl.space.total())).block *
                       kBlockSize;
                return true;
              }));
  }
  REQUIRE(at != 0);
  flip(store, at + 3);
  std::vector<Damage> found;
  auto const layer = verify_with_diff_id(*store, info.id, &found);
  CHECK(layer.diff_id == VerifiedLayer::kNotChecked);
  CHECK(layer.damaged == 1);
  REQUIRE(found.size() == 1);
  CHECK(found[0].device_offset == at);
  CHECK(found[0].layer == info.id);
  CHECK(found[0].text.find("skeleton") != std::string::npos);
  flip(store, at + 3);
}

TEST_CASE("why: each layer's part in a file, who owns it and who shares it") {
  TestStore store;
  LayerId const base = must(store->create_layer("base", 0));
  auto write = [&](LayerId id, std::string const& name, std::size_t at, std::string const& data) {
    auto const layer = must(store->layer(id));
    auto const is = layer->lookup(layer->root(), name);
    Inode const inode =
        is ? is->inode : must(layer->create(layer->root(), name, {S_IFREG | 0644})).inode;
    must(layer->write(inode, at, bytes_of(data)));
    return inode;
  };
  Inode const file = write(base, "f", 0, std::string(40'960, 'a'));
  LayerId const two = must(store->create_layer("two", base));
  write(two, "f", 8192, std::string(4096, 'b'));
  LayerId const three = must(store->create_layer("three", two));
  write(three, "other", 0, "x");
  LayerId const four = must(store->create_layer("four", three));
  must(must(store->layer(four))->setattr(file, {.permissions = 0600}));
  LayerId const five = must(store->create_layer("five", four));
  {
    auto const layer = must(store->layer(five));
    must(layer->unlink(layer->root(), "f"));
  }
  LayerId const six = must(store->create_layer("six", five));
  write(six, "f", 0, "new");
  auto const v = must(file_versions(*store, six, "/f", true));
  REQUIRE(v.size() == 5);
  CHECK(v[0].what == FileVersion::kAdded);
  CHECK(v[0].layer.id == base);
  REQUIRE(v[0].runs.size() == 1);
  CHECK(v[0].runs[0].owner == base);
  CHECK(v[0].sharers == std::vector<LayerId>{two, three, four});
  CHECK(v[1].what == FileVersion::kContent);
  CHECK(v[1].layer.id == two);
  REQUIRE(v[1].runs.size() == 3);
  CHECK(v[1].runs[0].owner == base);
  CHECK(v[1].runs[1].owner == two);
  CHECK(v[1].runs[1].file_offset == 8192);
  CHECK(v[1].runs[1].bytes == 4096);
  CHECK(v[1].runs[2].owner == base);
  CHECK(v[1].sharers == std::vector<LayerId>{base, three, four});
  CHECK(v[2].what == FileVersion::kAttributes);
  CHECK(v[2].layer.id == four);
  CHECK(v[2].info.mode == (S_IFREG | 0600));
  CHECK(v[3].what == FileVersion::kRemoved);
  CHECK(v[3].layer.id == five);
  CHECK(v[4].what == FileVersion::kAdded);
  CHECK(v[4].layer.id == six);
  CHECK(v[4].inode != file);
  CHECK(must(file_versions(*store, six, "/nothing", true)).empty());
  CHECK(file_versions(*store, 999, "/f", true).error().code == Errc::kNotFound);
}
