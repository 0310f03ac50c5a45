// SPDX-License-Identifier: Apache-2.0
// The file API as a FUSE server sees it, on a store in memory:
//   create    create + write 1 KiB, FILES files in 50 directories
//   lookup    lookup + getattr of each, by name
//   read      all of each
//   stat      readdir + getattr of each entry
//   readdir   readdir_attrs of all directories
//   unlink    each
// Each with 1 thread and with 2, which have directories of their own in one layer.  Prints
// operations per second, and processor time per operation, which says more on a machine that does
// other things too.
//
//     bench_engine [FILES [THREADS...]]
#include <fmt/format.h>
#include <sys/stat.h>
#include <time.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "device/device.h"
#include "engine/layer.h"
#include "engine/store.h"

using namespace lcfs;

namespace {

constexpr int kDirectories = 50;
constexpr std::uint64_t kDevice = 4ull << 30;

template <class T>
T must(Result<T> r) {
  if (!r) {
    fmt::print(stderr, "bench_engine: {}\n", r.error().text());
    std::exit(1);
  }
  return *std::move(r);
}
void must(Status r) {
  if (!r) {
    fmt::print(stderr, "bench_engine: {}\n", r.error().text());
    std::exit(1);
  }
}

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

struct Bench {
  int files = 50000, threads = 1;
  std::unique_ptr<Store> store{};
  std::shared_ptr<Layer> layer{};
  std::vector<Inode> directories{};

  // work(directory): how many operations that were.
  void phase(char const* name, std::function<std::uint64_t(int)> const& work) {
    std::atomic<std::uint64_t> done{0};
    auto const begin = std::chrono::steady_clock::now();
    double const cpu = cpu_seconds();
    std::vector<std::thread> pool;
    for (int t = 0; t < threads; ++t) {
      pool.emplace_back([&, t] {
        for (int d = t; d < kDirectories; d += threads) done += work(d);
      });
    }
    for (auto& t : pool) t.join();
    std::chrono::duration<double> const took = std::chrono::steady_clock::now() - begin;
    double const n = static_cast<double>(done);
    fmt::print("{:10} {} threads {:>10.0f} ops/s {:>7.2f} us of cpu each\n", name, threads,
               n / took.count(), (cpu_seconds() - cpu) * 1e6 / n);
  }

  void run() {
    auto device = make_memory_device(kDevice);
    must(Store::format(*device, {}));
    store = must(Store::open(std::move(device), {}));
    layer = must(store->layer(must(store->create_layer("bench", 0))));
    for (int d = 0; d < kDirectories; ++d) {
      directories.push_back(
          must(layer->create(layer->root(), "d" + std::to_string(d), {S_IFDIR | 0755})).inode);
    }
    int const each = files / kDirectories;
    auto name = [](int i) { return "file-" + std::to_string(i) + ".txt"; };
    std::vector<std::byte> const data(1024, std::byte{'x'});
    auto in = [&](int d) { return directories[static_cast<std::size_t>(d)]; };
    auto const count = static_cast<std::uint64_t>(each);

    phase("create", [&](int d) {
      for (int i = 0; i < each; ++i) {
        auto const a = must(layer->create(in(d), name(i), {S_IFREG | 0644}));
        must(layer->write(a.inode, 0, data));
      }
      return count;
    });
    auto const begin = std::chrono::steady_clock::now();
    must(store->checkpoint());
    std::chrono::duration<double> const took = std::chrono::steady_clock::now() - begin;
    fmt::print("checkpoint {:.0f} ms\n", took.count() * 1e3);
    phase("lookup", [&](int d) {
      for (int i = 0; i < each; ++i)
        must(layer->getattr(must(layer->lookup(in(d), name(i))).inode));
      return count;
    });
    phase("read", [&](int d) {
      std::vector<std::byte> buffer(131072);
      for (int i = 0; i < each; ++i)
        must(layer->read(must(layer->lookup(in(d), name(i))).inode, 0, buffer));
      return count;
    });
    constexpr int kRepeat = 5;
    phase("stat", [&](int d) {
      for (int i = 0; i < kRepeat; ++i) {
        must(layer->readdir(in(d), 0, [&](DirEntry const& e) {
          must(layer->getattr(e.inode));
          return true;
        }));
      }
      return count * kRepeat;
    });
    phase("readdir", [&](int d) {
      for (int i = 0; i < kRepeat; ++i) {
        must(layer->readdir_attrs(in(d), 0, [](DirEntry const&, Attr const&) { return true; }));
      }
      return count * kRepeat;
    });
    phase("unlink", [&](int d) {
      for (int i = 0; i < each; ++i) must(layer->unlink(in(d), name(i)));
      return count;
    });
    layer.reset();
    must(store->close());
  }
};

}  // namespace

int main(int argc, char** argv) {
  std::vector<int> threads;
  for (int i = 2; i < argc; ++i) threads.push_back(std::atoi(argv[i]));
  if (threads.empty()) threads = {1, 2};
  for (int const n : threads) {
    Bench bench;
    if (argc > 1) bench.files = std::max(kDirectories, std::atoi(argv[1]));
    bench.threads = std::max(1, n);
    bench.run();
  }
  return 0;
}
