// SPDX-License-Identifier: Apache-2.0
// The records of a layer by themselves, without a store, a lock or pages.
#include "engine/layer/layer_tree.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>

#include "engine/layer/open_files.h"
#include "tests/support/test_store.h"

using namespace lcfs;
using lcfs::test::must;

namespace {

constexpr LayerId kLayerId = 7, kBase = 3;
constexpr Inode kRoot = 100, kFile = 101, kOther = 102;

InodeInfo inode_of(std::uint32_t mode) {
  InodeInfo info;
  info.mode = mode;
  info.nlink = S_ISDIR(mode) ? 2 : 1;
  return info;
}

LayerInfo record_of(LayerId id, NodePtr root = {}) {
  LayerInfo info;
  info.id = id;
  info.root = root;
  info.root_inode = kRoot;
  return info;
}

struct OneLayer {
  std::unique_ptr<Device> device = make_memory_device(64u << 20);
  std::uint64_t total = (64u << 20) / kBlockSize;
  NodeCache cache{*device, total, {1, 2, 3, 4, 5, 6, 7, 8}, 1u << 20};
  SpaceMap space{*device, total, {}};
  std::array<std::uint8_t, 16> seed{1, 2, 3};
  LayerTree tree{{cache, space, *device, seed}, record_of(kLayerId)};

  OneLayer() {
    tree.set_generation(1);
    must(tree.add_inode(kRoot, inode_of(S_IFDIR | 0755)));
  }
};

std::vector<std::uint32_t> sums(std::size_t n) { return std::vector<std::uint32_t>(n, 5); }

}  // namespace

TEST_CASE("layer tree: a name has an entry and a back reference, which go together") {
  OneLayer l;
  must(l.tree.append_inode(kFile, inode_of(S_IFREG | 0644)));
  must(l.tree.add_name(kRoot, "file", kFile, S_IFREG | 0644));
  auto const entry = must(l.tree.find_entry(kRoot, "file"));
  REQUIRE(entry);
  CHECK(entry->inode == kFile);
  CHECK(mode_of_type(entry->type) == S_IFREG);
  CHECK(must(l.tree.names_of(kFile)) ==
        std::vector<std::pair<Inode, std::string>>{{kRoot, "file"}});
  CHECK(must(l.tree.parent_of(kFile)) == kRoot);
  CHECK(must(l.tree.is_inside(kFile, kRoot)));
  CHECK(l.tree.new_entry(kRoot, "file").error().sys == EEXIST);
  must(l.tree.remove_name(kRoot, "file", kFile));
  CHECK(!must(l.tree.find_entry(kRoot, "file")));
  CHECK(must(l.tree.names_of(kFile)).empty());
  CHECK(l.tree.remove_name(kRoot, "file", kFile).error().code == Errc::kCorrupt);
}

TEST_CASE("layer tree: inodes are counted as they come and go, with their blocks") {
  OneLayer l;
  must(l.tree.append_inode(kFile, inode_of(S_IFREG | 0644)));
  must(l.tree.append_inode(kOther, inode_of(S_IFREG | 0644)));
  CHECK(l.tree.inodes() == 3);
  Extent const blocks = must(l.tree.allocate_data(8));
  must(l.tree.map(kFile, 0, blocks, sums(blocks.count)));
  l.tree.count_nodes();
  auto const own = l.tree.own_blocks(), used = l.tree.used_blocks();
  CHECK(own == used);
  must(l.tree.remove_inodes(kFile, kOther));
  l.tree.count_nodes();
  CHECK(l.tree.inodes() == 1);
  CHECK(l.tree.own_blocks() == own - blocks.count);
  CHECK(l.tree.used_blocks() == used - blocks.count);
  CHECK(l.tree.get_inode(kFile).error().sys == ENOENT);
}

TEST_CASE("layer tree: inherited blocks are used but not owned, and never freed") {
  OneLayer l;
  must(l.tree.append_inode(kFile, inode_of(S_IFREG | 0644)));
  std::vector<le32> const words(4, le32(5));
  must(l.tree.map_inherited(kFile, 0, {1000, kBase, 4, words}));
  l.tree.count_nodes();
  CHECK(l.tree.used_blocks() == l.tree.own_blocks() + 4);
  (void)l.tree.take_freed();
  CHECK(must(l.tree.unmap(kFile, kBlockSize, 3 * kBlockSize)) == 2);  // the middle: two are left
  l.tree.count_nodes();
  CHECK(l.tree.take_freed().empty());
  CHECK(l.tree.used_blocks() == l.tree.own_blocks() + 2);
  auto const runs = must(l.tree.runs(kFile));
  REQUIRE(runs.size() == 2);
  CHECK(runs[0].device_offset == 1000 * kBlockSize);
  CHECK(runs[1].device_offset == 1003 * kBlockSize);
  CHECK(runs[1].file_offset == 3 * kBlockSize);
}

TEST_CASE("layer tree: after a commit all that it owned is inherited") {
  OneLayer l;
  must(l.tree.append_inode(kFile, inode_of(S_IFREG | 0644)));
  Extent const blocks = must(l.tree.allocate_data(4));
  must(l.tree.map(kFile, 0, blocks, sums(blocks.count)));
  l.tree.count_nodes();
  (void)l.tree.seal();
  l.tree.return_chunks();
  (void)l.tree.take_allocated();
  l.tree.begin_as(kLayerId + 1);
  CHECK(l.tree.own_blocks() == 0);
  must(l.tree.remove_inodes(kFile, kFile));
  l.tree.count_nodes();
  CHECK(l.tree.take_freed().empty());
  CHECK(l.tree.own_blocks() != 0);  // the nodes that were copied
}

TEST_CASE("layer tree: xattrs of many chunks come back whole, appended or put") {
  OneLayer l;
  std::string const large(3 * kXattrChunk + 5, 'x');
  std::vector<LayerTree::Xattr> const xattrs{
      {"user.a", "1"}, {"user.large", large}, {"user.z", ""}};
  must(l.tree.append_inode(kFile, inode_of(S_IFREG | 0644)));
  must(l.tree.append_xattrs(kFile, xattrs));
  must(l.tree.append_inode(kOther, inode_of(S_IFREG | 0644)));
  for (auto const& [name, value] : xattrs)
    must(l.tree.put_xattr(kOther, name, value, XattrMode::kCreate));
  for (Inode const inode : {kFile, kOther}) {
    CHECK(must(l.tree.xattr_names(inode)).size() == xattrs.size());
    for (auto const& [name, value] : xattrs) {
      auto cursor = l.tree.cursor();
      auto const key = must(l.tree.find_xattr(cursor, inode, name));
      REQUIRE(key);
      CHECK(must(l.tree.xattr_value(*key)) == value);
    }
  }
  CHECK(l.tree.put_xattr(kFile, "user.a", "2", XattrMode::kCreate).error().sys == EEXIST);
  CHECK(l.tree.put_xattr(kFile, "user.b", "2", XattrMode::kReplace).error().sys == ENODATA);
  must(l.tree.erase_xattrs(kFile));
  CHECK(must(l.tree.xattr_names(kFile)).empty());
}

TEST_CASE("open files: the number of held ones is right whatever happens to them") {
  std::atomic<std::uint64_t> held{0};
  OpenFiles open(held);
  open.set_holding(true);
  open.hold(kFile);
  open.hold(kFile);
  open.open(kFile);
  CHECK(held == 1);
  CHECK(open.get(kFile).keepers() == 2);
  CHECK(open.held_inodes() == std::vector<Inode>{kFile});
  open.unhold(kFile);
  CHECK(held == 0);
  CHECK(open.get(kFile).opens == 1);
  open.set_linkable(kOther);
  open.hold(kOther);
  CHECK(open.get(kOther).linkable);
  open.linked(kOther);
  CHECK(held == 0);
  CHECK(!open.get(kOther).linkable);
  open.hold(kOther);
  open.erase(kOther);
  CHECK(held == 0);
  CHECK(open.get(kOther).keepers() == 0);
}
