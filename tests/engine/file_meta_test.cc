// SPDX-License-Identifier: Apache-2.0
// What a server over the file API needs: held inodes, privileges, attributes from birth on,
// listings with attributes.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cerrno>
#include <set>
#include <string>
#include <thread>

#include "engine/layer.h"
#include "engine/store.h"
#include "tests/support/test_store.h"

using namespace lcfs;
using lcfs::test::must;
using lcfs::test::TestStore;

namespace {

std::span<std::byte const> bytes(std::string_view s) {
  return std::as_bytes(std::span{s.data(), s.size()});
}

std::string read_all(Layer& layer, Inode inode) {
  std::string out(must(layer.getattr(inode)).info.size, '?');
  CHECK(must(layer.read(inode, 0, std::as_writable_bytes(std::span{out.data(), out.size()}))) ==
        out.size());
  return out;
}

template <class R>
int sys(R const& r) {
  return r ? 0 : r.error().to_errno();
}

}  // namespace

TEST_CASE("held inodes: a file without names works until it is forgotten") {
  TestStore store;
  LayerId const id = must(store->create_layer("a", 0));
  auto layer = must(store->layer(id));
  Inode const root = layer->root();
  Inode const before = must(layer->create(root, "before", {S_IFREG | 0644})).inode;
  must(layer->unlink(root, "before"));
  CHECK(sys(layer->getattr(before)) == ENOENT);

  must(layer->hold_unlinked(true));
  Inode const f = must(layer->create(root, "f", {S_IFREG | 0644})).inode;
  Inode const d = must(layer->create(root, "d", {S_IFDIR | 0755})).inode;
  must(layer->forget(f));  // it has a name
  must(layer->forget(12345));
  CHECK(must(layer->write(f, 0, bytes("some data"))) == 9);
  must(layer->unlink(root, "f"));
  must(layer->rmdir(root, "d"));
  CHECK(sys(layer->create(d, "x", {S_IFREG | 0644})) == ENOENT);
  CHECK(must(layer->getattr(d)).info.nlink == 0);
  CHECK(read_all(*layer, f) == "some data");
  CHECK(must(layer->write(f, 9, bytes(std::string(9000, '!')))) == 9000);
  SetAttr set;
  set.size = 10;
  CHECK(must(layer->setattr(f, set)).info.size == 10);
  must(layer->fsync(f));
  store.check();
  CHECK(read_all(*layer, f) == "some data!");
  CHECK(sys(layer->link(f, root, "again")) == ENOENT);
  must(layer->forget(d));
  CHECK(sys(layer->getattr(d)) == ENOENT);

  // Opened as well: it goes with whatever comes last.
  must(layer->open(f));
  must(layer->forget(f));
  CHECK(read_all(*layer, f) == "some data!");
  must(layer->release(f));
  CHECK(sys(layer->getattr(f)) == ENOENT);

  // Replaced by rename; and all let go at once.
  Inode const g = must(layer->create(root, "g", {S_IFREG | 0644})).inode;
  must(layer->create(root, "h", {S_IFREG | 0644}));
  must(layer->rename(root, "h", root, "g", Rename::kReplace));
  Inode const t = must(layer->tmpfile({S_IFREG | 0600})).inode;
  Inode const u = must(layer->tmpfile({S_IFREG | 0600})).inode;
  CHECK(sys(layer->release(t)) == EBADF);  // held, not open
  CHECK(must(layer->getattr(g)).info.nlink == 0);
  must(layer->link(u, root, "u"));
  must(layer->hold_unlinked(false));
  CHECK(sys(layer->getattr(g)) == ENOENT);
  CHECK(sys(layer->getattr(t)) == ENOENT);
  CHECK(must(layer->lookup(root, "u")).inode == u);
  must(layer->unlink(root, "u"));
  CHECK(sys(layer->getattr(u)) == ENOENT);
  store.check();
}

TEST_CASE(
    "held inodes: none is left by a crash, by a lost object, or in the child of a layer that was "
    "frozen with some") {
  TestStore store;
  LayerId const id = must(store->create_layer("a", 0));
  Inode f = 0, g = 0;
  {
    auto layer = must(store->layer(id));
    must(layer->hold_unlinked(true));
    f = must(layer->create(layer->root(), "f", {S_IFREG | 0644})).inode;
    CHECK(must(layer->write(f, 0, bytes(std::string(20000, 'f')))) == 20000);
    must(layer->unlink(layer->root(), "f"));
    must(store->checkpoint());
  }
  store.crash();
  CHECK(sys(must(store->layer(id))->getattr(f)) == ENOENT);
  auto layer = must(store->layer(id));
  must(layer->hold_unlinked(true));
  g = must(layer->create(layer->root(), "g", {S_IFREG | 0644})).inode;
  CHECK(must(layer->write(g, 0, bytes(std::string(20000, 'g')))) == 20000);
  must(layer->unlink(layer->root(), "g"));
  LayerId const child = must(store->create_layer("b", id));
  CHECK(sys(must(store->layer(child))->getattr(g)) == ENOENT);
  CHECK(read_all(*layer, g) == std::string(20000, 'g'));
  must(layer->forget(g));  // frozen: it stays, and that is no error
  must(layer->hold_unlinked(false));
  store.check();
}

TEST_CASE("held inodes: threads that unlink, use and forget at the same time") {
  TestStore store(128);
  auto layer = must(store->layer(must(store->create_layer("a", 0))));
  must(layer->hold_unlinked(true));
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        std::string const name = std::to_string(t) + "." + std::to_string(i);
        auto f = layer->create(layer->root(), name, {S_IFREG | 0644});
        if (!f || !layer->write(f->inode, 0, bytes("abc")) || !layer->unlink(layer->root(), name))
          ++failures;
        if (!f || !layer->getattr(f->inode) || !layer->forget(f->inode) || layer->getattr(f->inode))
          ++failures;
      }
    });
  }
  for (int i = 0; i < 10; ++i) must(store->checkpoint());
  for (auto& t : threads) t.join();
  CHECK(failures == 0);
}

TEST_CASE("clear_privileges clears what write(2) clears, and nothing if there is nothing") {
  TestStore store;
  auto layer = must(store->layer(must(store->create_layer("a", 0))));
  Inode const f = must(layer->create(layer->root(), "f", {S_IFREG | 0644})).inode;
  auto mode_after = [&](std::uint32_t permissions) {
    SetAttr set;
    set.permissions = permissions;
    must(layer->setattr(f, set));
    must(layer->clear_privileges(f));
    return must(layer->getattr(f)).info.mode & 07777;
  };
  CHECK(mode_after(04755) == 0755);
  CHECK(mode_after(06755) == 0755);
  CHECK(mode_after(02745) == 02745);  // S_ISGID without S_IXGRP once meant mandatory locking
  CHECK(mode_after(06745) == 02745);
  CHECK(mode_after(01777) == 01777);
  must(layer->setxattr(f, "security.capability", "cap", XattrMode::kAny));
  must(layer->setxattr(f, "user.a", "b", XattrMode::kAny));
  must(layer->clear_privileges(f));
  CHECK(sys(layer->getxattr(f, "security.capability")) == ENODATA);
  CHECK(must(layer->getxattr(f, "user.a")) == "b");
  must(store->checkpoint());
  auto const generation = store->superblock().generation;
  must(layer->clear_privileges(f));
  must(layer->clear_privileges(layer->root()));
  must(store->checkpoint());
  CHECK(store->superblock().generation == generation);  // nothing was dirty
  CHECK(sys(layer->clear_privileges(9999)) == ENOENT);
}

TEST_CASE(
    "new inodes have their xattrs from the start; one that can't be had, and there is no inode") {
  TestStore store;
  auto layer = must(store->layer(must(store->create_layer("a", 0))));
  Inode const root = layer->root();
  NewNode node{S_IFREG | 0644};
  node.xattrs = {{"system.posix_acl_access", "acl"}, {"user.big", std::string(kMaxXattr, 'b')}};
  Inode const f = must(layer->create(root, "f", node)).inode;
  CHECK(must(layer->getxattr(f, "system.posix_acl_access")) == "acl");
  CHECK(must(layer->getxattr(f, "user.big")).size() == kMaxXattr);
  Inode const l = must(layer->symlink(root, "l", "target", node)).inode;
  CHECK(must(layer->listxattr(l)).size() == 2);
  node.mode = S_IFDIR | 0755;
  CHECK(must(layer->listxattr(must(layer->create(root, "d", node)).inode)).size() == 2);
  node.xattrs.push_back({"user.huge", std::string(kMaxXattr + 1, 'h')});
  CHECK(sys(layer->create(root, "no", node)) == E2BIG);
  node.xattrs.back() = {std::string(256, 'n'), "v"};
  CHECK(sys(layer->create(root, "no", node)) == ERANGE);
  node.xattrs.assign(kMaxNewXattrs, {"user.same", std::string(kMaxXattr, 's')});
  must(layer->create(root, "many", node));
  node.xattrs.assign(kMaxNewXattrs + 1, {"user.a", ""});
  CHECK(sys(layer->create(root, "no", node)) == E2BIG);
  CHECK(sys(layer->lookup(root, "no")) == ENOENT);
  CHECK(sys(layer->getxattr(f, "user.none")) == ENODATA);
  CHECK(sys(layer->getxattr(9999, "user.none")) == ENOENT);
  CHECK(sys(layer->lookup(f, "x")) == ENOTDIR);
  CHECK(sys(layer->lookup(9999, "x")) == ENOENT);
  store.check();
}

TEST_CASE(
    "readdir_attrs goes on behind any cookie, and tells what getattr tells, also of files with "
    "data in memory") {
  TestStore store;
  auto layer = must(store->layer(must(store->create_layer("a", 0))));
  Inode const root = layer->root();
  for (int i = 0; i < 1000; ++i) {
    Inode const f = must(layer->create(root, "f" + std::to_string(i), {S_IFREG | 0644})).inode;
    if (i % 3 == 0)
      CHECK(must(layer->write(f, 0, bytes(std::string(static_cast<std::size_t>(i), 'x')))) ==
            static_cast<std::size_t>(i));
  }
  std::set<std::string> seen;
  std::uint64_t cookie = 0;
  for (bool more = true; more;) {
    more = false;
    int n = 0;
    must(layer->readdir_attrs(root, cookie, [&](DirEntry const& e, Attr const& a) {
      if (++n > 23) {  // what a page holds
        more = true;
        return false;
      }
      CHECK(seen.insert(e.name).second);
      CHECK(a.info == must(layer->getattr(e.inode)).info);
      cookie = e.cookie;
      return true;
    }));
  }
  CHECK(seen.size() == 1000);
  Inode const f = must(layer->lookup(root, "f1")).inode;
  CHECK(sys(layer->readdir_attrs(f, 0, [](DirEntry const&, Attr const&) { return true; })) ==
        ENOTDIR);
}
