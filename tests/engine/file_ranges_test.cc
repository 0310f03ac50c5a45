// SPDX-License-Identifier: Apache-2.0
// Ranges of files: collapse, insert, and copying by sharing what is inherited.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cerrno>
#include <random>
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

std::string noise(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::string out(size, ' ');
  for (auto& c : out) c = static_cast<char>(rng());
  return out;
}

std::string read_all(Layer& layer, Inode inode) {
  std::string out(must(layer.getattr(inode)).info.size, '?');
  CHECK(must(layer.read(inode, 0, std::as_writable_bytes(std::span{out.data(), out.size()}))) ==
        out.size());
  return out;
}

Inode make(Layer& layer, std::string const& name, std::string const& data) {
  Inode const inode = must(layer.create(layer.root(), name, {S_IFREG | 0644})).inode;
  CHECK(must(layer.write(inode, 0, bytes(data))) == data.size());
  return inode;
}

std::uint64_t own_bytes(Layer& layer, Inode inode) {
  std::uint64_t own = 0;
  for (auto const& run : must(layer.runs(inode))) own += run.owner == layer.id() ? run.length : 0;
  return own;
}

}  // namespace

TEST_CASE("collapse and insert move records, not data: placed blocks stay where they are") {
  TestStore store(256);
  auto layer = must(store->layer(must(store->create_layer("a", 0))));
  std::string want = noise(24 << 20, 1);
  Inode const f = make(*layer, "f", want);
  store.check();
  auto const own = must(store->layer_info(layer->id())).own_blocks;
  must(layer->allocate(f, Allocate::kInsert, 5 * kBlockSize, 7 * kBlockSize));
  want.insert(5 * kBlockSize, 7 * kBlockSize, '\0');
  must(layer->allocate(f, Allocate::kCollapse, 100 * kBlockSize, 1000 * kBlockSize));
  want.erase(100 * kBlockSize, 1000 * kBlockSize);
  CHECK((read_all(*layer, f) == want));
  store.check();
  CHECK(must(layer->getattr(f)).info.blocks == (24 << 20) / kBlockSize - 1000);
  CHECK(must(store->layer_info(layer->id())).own_blocks < own - 900);
  store.reopen();
  layer = must(store->layer(1));
  CHECK((read_all(*layer, must(layer->lookup(layer->root(), "f")).inode) == want));
}

TEST_CASE("collapse and insert: what waits in memory moves too, also while it is being written") {
  OpenOptions options;
  options.dirty_data_file = 64u << 10;
  TestStore store(256, options);
  auto layer = must(store->layer(must(store->create_layer("a", 0))));
  Inode const f = make(*layer, "f", noise(100000, 2));
  std::string want = read_all(*layer, f);
  std::atomic<bool> stop{false};
  std::thread checkpoints([&] {
    while (!stop) (void)store->checkpoint();
  });
  std::mt19937_64 rng(3);
  for (int i = 0; i < 600; ++i) {
    std::uint64_t const at = rng() % (want.size() / kBlockSize) * kBlockSize,
                        n = (1 + rng() % 20) * kBlockSize;
    if (want.size() < 200000) {
      must(layer->allocate(f, Allocate::kInsert, at, n));
      want.insert(at, n, '\0');
    } else if (at + n < want.size()) {
      must(layer->allocate(f, Allocate::kCollapse, at, n));
      want.erase(at, n);
    }
    std::string const part = noise(rng() % 9000, rng());
    std::uint64_t const into = rng() % want.size();
    CHECK(must(layer->write(f, into, bytes(part))) == part.size());
    if (want.size() < into + part.size()) want.resize(into + part.size());
    want.replace(into, part.size(), part);
    if (i % 10 == 0) REQUIRE((read_all(*layer, f) == want));
  }
  stop = true;
  checkpoints.join();
  CHECK((read_all(*layer, f) == want));
}

TEST_CASE("collapse and insert refuse what Linux refuses") {
  TestStore store;
  auto layer = must(store->layer(must(store->create_layer("a", 0))));
  Inode const f = make(*layer, "f", std::string(10000, 'x'));
  auto const sys = [&](Allocate how, std::uint64_t at, std::uint64_t n) {
    auto const r = layer->allocate(f, how, at, n);
    return r ? 0 : r.error().to_errno();
  };
  CHECK(sys(Allocate::kCollapse, 0, 100) == EINVAL);
  CHECK(sys(Allocate::kCollapse, 100, 4096) == EINVAL);
  CHECK(sys(Allocate::kCollapse, 4096, 8192) == EINVAL);
  CHECK(sys(Allocate::kCollapse, 0, 12288) == EINVAL);
  CHECK(sys(Allocate::kInsert, 12288, 4096) == EINVAL);
  CHECK(sys(Allocate::kInsert, 4096, 100) == EINVAL);
  CHECK(sys(Allocate::kInsert, 4096, kMaxFileSize - 4096) == EFBIG);
  CHECK(layer->allocate(layer->root(), Allocate::kInsert, 0, 4096).error().to_errno() == EISDIR);
  CHECK(read_all(*layer, f) == std::string(10000, 'x'));
  // A small file, whose data stands in the leaf.
  Inode const small = make(*layer, "small", "small");
  must(store->checkpoint());
  CHECK(must(layer->getattr(small)).info.blocks == 0);
  must(layer->allocate(small, Allocate::kInsert, 0, 8192));
  CHECK(read_all(*layer, small) == std::string(8192, '\0') + "small");
  store.check();
  CHECK(read_all(*layer, small) == std::string(8192, '\0') + "small");
  must(layer->allocate(small, Allocate::kCollapse, 0, 8192));
  CHECK(read_all(*layer, small) == "small");
  store.check();
}

TEST_CASE(
    "copy_range: what is inherited is shared, holes stay holes, what the layer owns is copied") {
  TestStore store(128);
  std::string want = noise((4 << 20) + 1234, 4);
  want.replace(1 << 20, 1 << 20, 1 << 20, '\0');
  LayerId const base = must(store->create_layer("base", 0));
  Inode f = 0;
  {
    auto layer = must(store->layer(base));
    f = make(*layer, "f", want);
  }
  auto layer = must(store->layer(must(store->create_layer("top", base))));
  Inode const g = make(*layer, "g", "");
  CHECK(must(layer->copy_range(f, 0, g, 0, ~0ull)) == want.size());
  CHECK((read_all(*layer, g) == want));
  store.check();
  CHECK(own_bytes(*layer, g) == 0);
  CHECK(must(layer->getattr(g)).info.blocks == 3 * 256 + 1);
  CHECK(must(layer->seek(g, 0, Whence::kHole)) == 1 << 20);

  // Shared again from the copy, changed, and the original gone: each has its own view.
  Inode const h = make(*layer, "h", "");
  CHECK(must(layer->copy_range(g, 4096, h, 8192, 1 << 20)) == 1 << 20);
  CHECK(must(layer->write(g, 5000, bytes("changed"))) == 7);
  must(layer->unlink(layer->root(), "f"));
  std::string changed = want;
  changed.replace(5000, 7, "changed");
  CHECK((read_all(*layer, g) == changed));
  CHECK((read_all(*layer, h) == std::string(8192, '\0') + want.substr(4096, 1 << 20)));
  store.check();
  CHECK(own_bytes(*layer, g) == kBlockSize);
  CHECK(own_bytes(*layer, h) == 0);

  // Owned, or at another place in the block: through memory.
  Inode const i = make(*layer, "i", "");
  CHECK(must(layer->copy_range(g, 0, i, 100, ~0ull)) == want.size());
  CHECK((read_all(*layer, i) == std::string(100, '\0') + changed));
  store.check();
  CHECK(own_bytes(*layer, i) >= 3u << 20);
  CHECK(own_bytes(*layer, i) <= (3u << 20) + 4 * kBlockSize);

  // From a layer below: shared too.  From one beside: not.
  Inode const j = make(*layer, "j", "");
  CHECK(must(layer->copy_range(*must(store->layer(base)), f, 0, j, 0, ~0ull)) == want.size());
  CHECK((read_all(*layer, j) == want));
  auto beside = must(store->layer(must(store->create_layer("beside", base))));
  Inode const k = make(*beside, "k", "");
  CHECK(must(beside->copy_range(*layer, g, 0, k, 0, ~0ull)) == want.size());
  CHECK((read_all(*beside, k) == changed));
  store.check();
  CHECK(own_bytes(*layer, j) == 0);
  CHECK(own_bytes(*beside, k) == kBlockSize);  // all but the block that is the other layer's own

  // All of it through a clone and a removal.
  LayerId const id = layer->id();
  layer.reset();
  auto top = must(store->layer(must(store->create_layer("toptop", id))));
  must(top->unlink(top->root(), "g"));
  CHECK((read_all(*top, j) == want));
  store.check();
  store.reopen();
}

TEST_CASE("copy_range: the last block is shared only if it becomes the last one") {
  TestStore store(64);
  LayerId const base = must(store->create_layer("base", 0));
  Inode f = 0, g = 0;
  {
    auto layer = must(store->layer(base));
    f = make(*layer, "f", std::string(5000, 'f'));
    g = make(*layer, "g", std::string(20000, 'g'));
  }
  auto layer = must(store->layer(must(store->create_layer("top", base))));
  CHECK(must(layer->copy_range(f, 0, g, 4096, 9000)) == 5000);
  CHECK(read_all(*layer, g) ==
        std::string(4096, 'g') + std::string(5000, 'f') + std::string(20000 - 9096, 'g'));
  CHECK(must(layer->copy_range(g, 0, f, 0, 4096 + 100)) == 4196);
  CHECK(read_all(*layer, f) == std::string(4096, 'g') + std::string(904, 'f'));
  CHECK(layer->copy_range(f, 0, f, 100, 200).error().to_errno() == EINVAL);
  CHECK(layer->copy_range(layer->root(), 0, f, 100, 200).error().to_errno() == EISDIR);
  CHECK(layer->copy_range(f, 0, g, kMaxFileSize, 200).error().to_errno() == EFBIG);
  CHECK(must(layer->copy_range(f, 5000, g, 0, 100)) == 0);
  // Onto a small file's inline data, in front of it and behind.
  Inode const small = make(*layer, "small", "small");
  store.check();
  CHECK(must(layer->copy_range(*must(store->layer(base)), g, 4096, small, 8192, 4096)) == 4096);
  CHECK(read_all(*layer, small) == "small" + std::string(8187, '\0') + std::string(4096, 'g'));
  store.check();
  CHECK(read_all(*layer, small) == "small" + std::string(8187, '\0') + std::string(4096, 'g'));
}

TEST_CASE("copy_range both ways between two layers at once does not lock up") {
  TestStore store(128);
  LayerId const base = must(store->create_layer("base", 0));
  auto a = must(store->layer(must(store->create_layer("a", base))));
  auto b = must(store->layer(must(store->create_layer("b", base))));
  Inode const fa = make(*a, "f", noise(300000, 5)), fb = make(*b, "f", noise(300000, 6));
  std::atomic<int> failures{0};
  std::thread one([&] {
    for (int i = 0; i < 200; ++i) failures += a->copy_range(*b, fb, 0, fa, 0, 300000) ? 0 : 1;
  });
  std::thread two([&] {
    for (int i = 0; i < 200; ++i) failures += b->copy_range(*a, fa, 0, fb, 0, 300000) ? 0 : 1;
  });
  for (int i = 0; i < 20; ++i) must(store->checkpoint());
  one.join();
  two.join();
  CHECK(failures == 0);
}

TEST_CASE(
    "a small file that outgrows its leaf on a full store is refused, or kept: the store stays "
    "writable") {
  TestStore store(16);
  auto layer = must(store->layer(must(store->create_layer("a", 0))));
  std::vector<Inode> small;
  for (int i = 0; i < 40; ++i) small.push_back(make(*layer, "s" + std::to_string(i), "small"));
  must(store->checkpoint());
  Inode const filler = make(*layer, "filler", "");
  for (std::uint64_t at = 0;; at += 65536) {
    if (!layer->write(filler, at, bytes(noise(65536, at)))) break;
  }
  for (Inode const inode : small) {
    auto const r = layer->write(inode, 9000, bytes("x"));
    if (!r) CHECK(r.error().to_errno() == ENOSPC);
  }
  store.check();
  must(layer->unlink(layer->root(), "filler"));
  store.check();
}
