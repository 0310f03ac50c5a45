// SPDX-License-Identifier: Apache-2.0
// A store that is full, in pieces, or on a host that is full; and one with a bad block: nobody
// loses what is not in the way.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/sync.h"
#include "engine/space/space_map.h"
#include "engine/squash.h"
#include "tests/support/layer_files.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

std::span<std::byte const> bytes_of(std::string const& s) {
  return std::as_bytes(std::span{s.data(), s.size()});
}

// A host that has no room at all.
class FullHost final : public SharedDevice {
 public:
  using SharedDevice::SharedDevice;
  [[nodiscard]] bool always_backed() const override { return false; }
  Status reserve(std::uint64_t, std::uint64_t) override {
    ++asked;
    return Error::no_space("the host is full");
  }
  int asked = 0;
};

}  // namespace

TEST_CASE(
    "full: small files fill a store, some go, again and again: it is told at once, nothing is "
    "lost, and all can go") {
  for (unsigned seed = 1; seed <= 4; ++seed) {
    std::mt19937_64 random(seed);
    auto roll = [&](std::uint64_t below) {
      return std::uniform_int_distribution<std::uint64_t>(0, below - 1)(random);
    };
    TestStore store(16);
    LayerId const id = must(store->create_layer("w", 0));
    auto layer = must(store->layer(id));
    Files files;
    unsigned made = 0;
    for (int round = 0; round < 4; ++round) {
      for (;;) {
        std::string const name = "f" + std::to_string(made++);
        auto const created = layer->create(layer->root(), name, {S_IFREG | 0644});
        if (!created) {
          REQUIRE_MESSAGE(created.error().to_errno() == ENOSPC, created.error().text());
          break;
        }
        std::string const data(1 + roll(12'000), static_cast<char>('a' + roll(26)));
        auto const n = layer->write(created->inode, 0, bytes_of(data));
        files[name] = data.substr(0, n ? *n : 0);
        if (!n) {
          REQUIRE_MESSAGE(n.error().to_errno() == ENOSPC, n.error().text());
          break;
        }
      }
      std::vector<std::string> names;
      for (auto const& f : files) names.push_back(f.first);
      std::shuffle(names.begin(), names.end(), random);
      names.resize(names.size() / 2);
      for (auto const& name : names) {
        auto const gone = layer->unlink(layer->root(), name);
        REQUIRE_MESSAGE(gone.ok(), gone.error().text());
        files.erase(name);
      }
      must(store->checkpoint());
      CHECK(files_of(*layer) == files);
    }
    for (auto const& f : files) must(layer->unlink(layer->root(), f.first));
    must(store->checkpoint());
    store.check();
  }
}

namespace {
class CountingDevice final : public SharedDevice {
 public:
  using SharedDevice::SharedDevice;
  Status flush() override {
    ++flushes;
    return below_->flush();
  }
  std::atomic<int> flushes{0};
};
}  // namespace

TEST_CASE(
    "full: who goes on writing is refused without a flush of the device for each, and is served as "
    "soon as something goes") {
  auto const device = std::make_shared<CountingDevice>(make_memory_device(16 << 20));
  must(Store::format(*device, {}));
  TestStore store(device, {});
  auto layer = must(store->layer(must(store->create_layer("w", 0))));
  Inode const root = layer->root();
  std::string const data(1 << 20, 'x');
  Inode const big = must(layer->create(root, "big", {S_IFREG | 0644})).inode;
  for (std::uint64_t at = 0;; at += data.size())
    if (auto const n = layer->write(big, at, bytes_of(data)); !n || *n != data.size()) break;
  int made = 0;
  while (layer->create(root, "small" + std::to_string(made), {S_IFREG | 0644}))
    REQUIRE(++made < 100'000);
  for (int round = 0; round < 4; ++round) {
    int const before = device->flushes;
    for (int i = 0; i < 200; ++i) {
      auto const refused = layer->create(root, "more", {S_IFREG | 0644});
      REQUIRE_FALSE(refused);
      CHECK(refused.error().to_errno() == ENOSPC);
      auto const n = layer->write(big, data.size() * 100, bytes_of(data));
      REQUIRE_FALSE(n);
      CHECK(n.error().to_errno() == ENOSPC);
    }
    CHECK(device->flushes - before < 20);
    // Something goes, and the next one finds the room.
    SetAttr set;
    set.size = must(layer->getattr(big)).info.size - data.size();
    must(layer->setattr(big, set));
    CHECK(must(layer->write(big, *set.size, bytes_of(std::string(data.size() / 2, 'y')))) ==
          data.size() / 2);
    while (layer->create(root, "small" + std::to_string(made), {S_IFREG | 0644}))
      REQUIRE(++made < 100'000);
  }
  store.check();
}

TEST_CASE(
    "full: what a removed layer had is there for the next writer when its last file is closed, "
    "though others were refused until then") {
  TestStore store(16);
  LayerId const id = must(store->create_layer("victim", 0));
  auto victim = must(store->layer(id));
  put(*victim, "big", std::string(2 << 20, 'v'));
  auto layer = must(store->layer(must(store->create_layer("w", 0))));
  int made = 0;
  while (layer->create(layer->root(), "x" + std::to_string(made), {S_IFREG | 0644}))
    REQUIRE(++made < 100'000);
  must(store->remove_layer(id));
  while (layer->create(layer->root(), "x" + std::to_string(made), {S_IFREG | 0644}))
    REQUIRE(++made < 100'000);
  victim.reset();
  must(store->checkpoint());  // gives its blocks back, but they are not free yet
  auto const after = layer->create(layer->root(), "after", {S_IFREG | 0644});
  CHECK_MESSAGE(after.ok(), after.error().text());
  store.check();
}

// A kernel says when it has forgotten a file only when it has nothing more urgent to say.
TEST_CASE(
    "full: what is still held though it was removed comes back to who needs it, also if its client "
    "says so late") {
  TestStore store(16);
  auto layer = must(store->layer(must(store->create_layer("w", 0))));
  must(layer->hold_unlinked(true));
  Inode const root = layer->root();
  auto fill = [&](Inode inode) {
    std::string const data(1 << 20, 'x');
    for (std::uint64_t at = 0;; at += data.size())
      if (auto const n = layer->write(inode, at, bytes_of(data)); !n || *n != data.size()) return;
  };
  for (int round = 0; round < 3; ++round) {
    Inode const big = must(layer->create(root, "big", {S_IFREG | 0644})).inode;
    fill(big);
    for (int i = 0; layer->create(root, "small" + std::to_string(round) + "." + std::to_string(i),
                                  {S_IFREG | 0644});
         ++i)
      REQUIRE(i < 10'000);
    must(layer->unlink(root, "big"));
    std::thread client([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(120));
      must(layer->forget(big));
    });
    auto const again = layer->create(root, "again", {S_IFREG | 0644});
    client.join();
    CHECK_MESSAGE(again.ok(), again.error().text());
    if (again) must(layer->unlink(root, "again"));
    if (again) must(layer->forget(again->inode));
  }
  must(layer->hold_unlinked(false));
  store.check();
}

TEST_CASE(
    "full: a removal that found no room when the client forgot the file is made up for when "
    "somebody needs its blocks") {
  TestStore store(16);
  auto layer = must(store->layer(must(store->create_layer("w", 0))));
  must(layer->hold_unlinked(true));
  Inode const root = layer->root();
  constexpr int kSmall = 2000;
  for (int i = 0; i < kSmall; ++i)
    must(layer->create(root, "small" + std::to_string(i), {S_IFREG | 0644}));
  Inode const big = must(layer->create(root, "big", {S_IFREG | 0644})).inode;
  std::string const data(1 << 20, 'x');
  for (std::uint64_t at = 0;; at += data.size())
    if (auto const n = layer->write(big, at, bytes_of(data)); !n || *n != data.size()) break;
  must(layer->unlink(root, "big"));
  {
    auto const pin =
        store
            ->pin();  // keeps what each removal and checkpoint leaves, until no removal is possible
    int gone = 0;
    while (gone < kSmall && layer->unlink(root, "small" + std::to_string(gone))) {
      ++gone;
      must(store->checkpoint());
    }
    REQUIRE(gone < kSmall);
    auto const refused = layer->forget(big);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::kNoSpace);
  }
  CHECK(layer->getattr(big).ok());
  std::string const some(4 << 20, 's');
  Inode const next = must(layer->create(root, "next", {S_IFREG | 0644})).inode;
  CHECK(must(layer->write(next, 0, bytes_of(some))) == some.size());
  CHECK_FALSE(layer->getattr(big));
  must(layer->hold_unlinked(false));
  store.check();
}

// The store tree's nodes are copied by every checkpoint, and a pin keeps what they leave: that must
// not eat what nothing was promised from.
TEST_CASE(
    "full: hundreds of layers in a small store, by many threads under pins: it is never read-only, "
    "and all can go") {
  constexpr auto kTime = std::chrono::milliseconds(1500);
  TestStore store(16);
  std::atomic<bool> stop{false};
  std::atomic<int> full{0};
  Mutex mu;
  std::vector<LayerId> open;  // under mu
  std::string wrong;          // under mu
  auto said = [&](Error const& e) {
    if (e.code == Errc::kNoSpace || e.sys == ENOSPC) {
      ++full;
    } else if (e.code != Errc::kBusy && e.code != Errc::kNotFound && e.code != Errc::kExists &&
               e.code != Errc::kReadOnly && e.sys != ENOENT && e.sys != EEXIST && e.sys != ESTALE &&
               e.sys != EROFS) {
      Lock lock(mu);
      wrong = e.text();
    }
  };
  auto some_layer = [&](std::mt19937_64& random) {
    Lock lock(mu);
    return open.empty() ? LayerId{0} : open[random() % open.size()];
  };
  LayerId const base = must(store->create_layer("base", 0));
  put(*must(store->layer(base)), "file", std::string(20'000, 'b'));
  must(store->freeze_layer(base));
  for (int i = 0; i < 150; ++i) {
    LayerId const id = must(store->create_layer("l" + std::to_string(i), base));
    Lock lock(mu);
    open.push_back(id);
  }
  auto write = [&](std::uint64_t seed) {
    std::mt19937_64 random(seed);
    while (!stop) {
      auto const layer = store->layer(some_layer(random));
      if (!layer) continue;
      for (int i = 0; i < 20; ++i) {
        std::string const name = "f" + std::to_string(random() % 40);
        auto const root = (*layer)->root();
        auto const created = (*layer)->create(root, name, {S_IFREG | 0644});
        if (created) {
          if (auto const n = (*layer)->write(created->inode, random() % 9000,
                                             bytes_of(std::string(1 + random() % 30'000, 'w')));
              !n)
            said(n.error());
        } else if (created.error().to_errno() != EEXIST) {
          said(created.error());
          if (auto const gone = (*layer)->unlink(root, name); !gone) said(gone.error());
        } else if (auto const gone = (*layer)->unlink(root, name); !gone) {
          said(gone.error());
        }
      }
    }
  };
  auto change = [&] {
    std::mt19937_64 random(7);
    for (unsigned made = 0; !stop; ++made) {
      LayerId const id = some_layer(random);
      std::string const name = "c" + std::to_string(made);
      auto const what = random() % 8;
      if (what < 3) {
        auto const next = store->commit_layer(id, name);
        if (!next) said(next.error());
        Lock lock(mu);
        if (next) std::replace(open.begin(), open.end(), id, *next);
      } else if (what < 4) {
        auto const flat = squash_layer(*store, base, id, name, stop);
        if (!flat && flat.error().code != Errc::kInterrupted) said(flat.error());
        if (flat) {
          if (auto const gone = store->remove_layer(*flat); !gone) said(gone.error());
        }
      } else if (what < 6) {
        auto const made_one = store->create_layer(name, base);
        if (!made_one) said(made_one.error());
        Lock lock(mu);
        if (made_one) open.push_back(*made_one);
      } else if (auto const gone = store->remove_layer(id); gone) {
        Lock lock(mu);
        std::erase(open, id);
      } else {
        said(gone.error());
      }
    }
  };
  auto checkpoint = [&] {
    while (!stop) {
      if (auto const ok = store->checkpoint(); !ok) said(ok.error());
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  };
  auto pin = [&] {
    std::mt19937_64 random(8);
    while (!stop) {
      auto const held = store->pin();
      std::this_thread::sleep_for(std::chrono::milliseconds(random() % 300));
    }
  };
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < 3; ++i) threads.emplace_back(write, i);
  threads.emplace_back(change);
  threads.emplace_back(checkpoint);
  threads.emplace_back(pin);
  std::this_thread::sleep_for(kTime);
  stop = true;
  for (auto& t : threads) t.join();
  {
    Lock lock(mu);
    CHECK(wrong == "");
  }
  CHECK(full > 0);  // else there was nothing to see
  auto const failed = store->failure();
  REQUIRE_MESSAGE(!failed, failed->text());
  for (;;) {
    auto const all = must(store->space_use()).layers;
    if (all.empty()) break;
    std::size_t removed = 0;
    for (auto const& l : all) {
      if (l.children != 0) continue;
      must(store->remove_layer(l.id));
      ++removed;
    }
    REQUIRE(removed > 0);
  }
  store.check();
}

TEST_CASE(
    "full: files that a layer has from below eat what is kept for removals, but all of its own can "
    "still go") {
  for (unsigned seed = 1; seed <= 3; ++seed) {
    std::mt19937_64 random(seed);
    TestStore store(32);
    LayerId id = must(store->create_layer("w", 0));
    auto layer = must(store->layer(id));
    unsigned made = 0;
    auto fill = [&] {
      std::vector<std::string> names;
      for (;;) {
        std::string const name = "f" + std::to_string(made++);
        auto const created = layer->create(layer->root(), name, {S_IFREG | 0644});
        if (!created) break;
        names.push_back(name);
        if (!layer->write(created->inode, 0, bytes_of(std::string(1 + random() % 9000, 'x'))))
          break;
      }
      std::shuffle(names.begin(), names.end(), random);
      return names;
    };
    auto inherited = fill();
    for (std::size_t left = inherited.size() / 2; inherited.size() > left; inherited.pop_back())
      must(layer->unlink(layer->root(), inherited.back()));
    id = must(store->commit_layer(id, "c"));
    auto const own = fill();
    REQUIRE(own.size() > 1000);
    std::size_t refused = 0;
    for (auto const& name : inherited) refused += layer->unlink(layer->root(), name) ? 0 : 1;
    CHECK(refused > 0);  // else there was nothing to see
    // A leaf may hold records of both kinds, so a few of them may copy something, too.
    std::size_t gone = 0;
    for (int round = 0; round < 2; ++round) {
      for (auto const& name : own) gone += layer->unlink(layer->root(), name) ? 1 : 0;
    }
    CHECK(gone == own.size());
    CHECK(!store->failure());
    layer.reset();
    store.check();
  }
}

TEST_CASE(
    "full: what is free in pieces too small for a node is no room for promises, and data takes it "
    "when room is short") {
  constexpr std::uint64_t kBlocks = 8192;
  auto const device = make_memory_device(kBlocks * kBlockSize);
  std::vector<Extent> used;  // of every four blocks from 4096 on, three are free
  for (std::uint64_t b = 4096; b < kBlocks; b += 4) used.push_back({b, 1});
  SpaceMap space(*device, kBlocks, used);
  auto const before = space.counts();
  CHECK(before.free - before.usable >= 3 * 1024);
  // All the room there is, but for that of removals, is promised as nodes; then comes data that was
  // promised before.
  constexpr std::uint64_t kData = 900;
  must(space.promise(kData, Urgency::kOrdinary));
  auto const nodes = (before.usable - before.emergency - kData) / kNodeBlocks - 1;
  must(space.promise(nodes * kNodeBlocks, Urgency::kOrdinary));
  CHECK(!space.promise(2 * kNodeBlocks, Urgency::kOrdinary).ok());
  for (std::uint64_t left = kData; left > 0;) {
    auto const got = must(space.allocate(1, left, 1, 0, Urgency::kOrdinary));
    REQUIRE(got.count <= left);
    if (got.count > 1) space.unpromise(got.count - 1);
    left -= got.count;
  }
  CHECK(space.counts().usable >= nodes * kNodeBlocks + before.emergency);
  for (std::uint64_t i = 0; i < nodes; ++i)
    must(space.allocate(kNodeBlocks, kNodeBlocks, kNodeBlocks, 0, Urgency::kOrdinary));
}

TEST_CASE(
    "full: when nothing may begin any more, a checkpoint under way and the next can still copy the "
    "whole store tree") {
  constexpr std::uint64_t kBlocks = 16384, kTree = 1000;
  auto const device = make_memory_device(kBlocks * kBlockSize);
  SpaceMap space(*device, kBlocks, {});
  space.set_store_tree(kTree);
  while (space.promise(kNodeBlocks, Urgency::kOrdinary)) continue;
  while (space.promise(kNodeBlocks, Urgency::kEmergency)) continue;
  auto copies = [&](auto const& go_on) {
    std::uint64_t blocks = 0;
    for (; go_on() && space.allocate(kNodeBlocks, kNodeBlocks, 0, 0, Urgency::kEmergency);
         blocks += kNodeBlocks)
      continue;
    return blocks;
  };
  space.pin(1);
  CHECK(copies([&] { return space.check_reserve(Urgency::kEmergency).ok(); }) >=
        kTree);  // those before
  CHECK(!space.check_reserve(Urgency::kOrdinary).ok());
  space.unpin(1);
  CHECK(copies([&] { return space.check_reserve(Urgency::kEmergency).ok(); }) >=
        kTree);  // a removal can still begin
  CHECK(copies([] { return true; }) >= kTree);
}

TEST_CASE("full: a host that is full is not asked again at once") {
  FullHost host(make_memory_device(std::uint64_t{8192} * kBlockSize));
  SpaceMap space(host, 8192, {});
  for (int i = 0; i < 1000; ++i)
    CHECK(space.promise(100, Urgency::kOrdinary).error().code == Errc::kNoSpace);
  CHECK(host.asked < 100);
}

TEST_CASE(
    "a bad block: a write into a part of it says so, one over all of it mends it, and other "
    "layers' files are safe") {
  TestStore store(16);
  LayerId const base = must(store->create_layer("base", 0));
  std::string const data(3 * kBlockSize, 'd');
  std::uint64_t at = 0;
  {
    auto layer = must(store->layer(base));
    Inode const inode = put(*layer, "file", data);
    must(store->checkpoint());
    at = must(layer->runs(inode)).front().device_offset + kBlockSize;
  }
  must(store->freeze_layer(base));
  must(store->checkpoint());
  AlignedBuffer block(kBlockSize);
  auto const overwrite = [&](char with) {
    std::fill_n(reinterpret_cast<char*>(block.data()), kBlockSize, with);
    must(store.device()->write(at, std::span<std::byte const>(block.span())));
  };
  overwrite('x');
  auto work = must(store->layer(must(store->create_layer("work", base)))),
       other = must(store->layer(must(store->create_layer("other", base))));
  put(*other, "precious", "kept");
  Inode const inode = must(work->lookup(work->root(), "file")).inode;
  for (std::uint64_t const offset : {kBlockSize + 10ul, 2 * kBlockSize - 5ul, kBlockSize - 5ul}) {
    auto const n = work->write(inode, offset, bytes_of(std::string(10, 'n')));
    REQUIRE(!n);
    CHECK(n.error().to_errno() == EIO);
  }
  CHECK(must(work->write(inode, 2 * kBlockSize, bytes_of("ok"))) == 2);
  must(store->checkpoint());
  CHECK(must(work->write(inode, kBlockSize, bytes_of(std::string(kBlockSize, 'n')))) == kBlockSize);
  must(store->checkpoint());
  CHECK(content(*work, inode) == std::string(kBlockSize, 'd') + std::string(kBlockSize, 'n') +
                                     "ok" + std::string(kBlockSize - 2, 'd'));
  CHECK(content(*other, must(other->lookup(other->root(), "precious")).inode) == "kept");
  work.reset();
  other.reset();
  overwrite('d');  // for fsck
  store.reopen();
}
