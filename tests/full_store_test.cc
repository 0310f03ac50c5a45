// SPDX-License-Identifier: Apache-2.0
// A store that is full, in pieces, or on a host that is full; and one with a bad block: nobody loses what is not in the way.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <string>
#include <vector>

#include "engine/space.h"
#include "tests/support/layer_files.h"
#include "tests/support/test_store.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

std::span<std::byte const> bytes_of(std::string const& s) { return std::as_bytes(std::span{s.data(), s.size()}); }

// A host that has no room at all.
class FullHost final : public SharedDevice {
 public:
  using SharedDevice::SharedDevice;
  [[nodiscard]] bool always_backed() const override { return false; }
  Status reserve(std::uint64_t, std::uint64_t) override {
    ++asked;
    return Error{Errc::kNoSpace, "the host is full", ENOSPC};
  }
  int asked = 0;
};

}  // namespace

TEST_CASE("full: small files fill a store, some go, again and again: it is told at once, nothing is lost, and all can go") {
  for (unsigned seed = 1; seed <= 4; ++seed) {
    std::mt19937_64 random(seed);
    auto roll = [&](std::uint64_t below) { return std::uniform_int_distribution<std::uint64_t>(0, below - 1)(random); };
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

TEST_CASE("full: what is free in pieces too small for a node is no room for promises, and data takes it when room is short") {
  constexpr std::uint64_t kBlocks = 8192;
  auto const device = make_memory_device(kBlocks * kBlockSize);
  std::vector<Extent> used;  // of every four blocks from 4096 on, three are free
  for (std::uint64_t b = 4096; b < kBlocks; b += 4) used.push_back({b, 1});
  SpaceMap space(*device, kBlocks, used);
  auto const before = space.counts();
  CHECK(before.free - before.usable >= 3 * 1024);
  // All the room there is, but for that of removals, is promised as nodes; then comes data that was promised before.
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
  for (std::uint64_t i = 0; i < nodes; ++i) must(space.allocate(kNodeBlocks, kNodeBlocks, kNodeBlocks, 0, Urgency::kOrdinary));
}

TEST_CASE("full: a host that is full is not asked again at once") {
  FullHost host(make_memory_device(std::uint64_t{8192} * kBlockSize));
  SpaceMap space(host, 8192, {});
  for (int i = 0; i < 1000; ++i) CHECK(space.promise(100, Urgency::kOrdinary).error().code == Errc::kNoSpace);
  CHECK(host.asked < 100);
}

TEST_CASE("a bad block: a write into a part of it says so, one over all of it mends it, and other layers' files are safe") {
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
  auto work = must(store->layer(must(store->create_layer("work", base)))), other = must(store->layer(must(store->create_layer("other", base))));
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
  CHECK(content(*work, inode) == std::string(kBlockSize, 'd') + std::string(kBlockSize, 'n') + "ok" + std::string(kBlockSize - 2, 'd'));
  CHECK(content(*other, must(other->lookup(other->root(), "precious")).inode) == "kept");
  work.reset();
  other.reset();
  overwrite('d');  // for fsck
  store.reopen();
}
