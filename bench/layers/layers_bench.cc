// SPDX-License-Identifier: Apache-2.0
// What does a layer cost when there are few, and when there are 10,000?
//
// Workload: a store with N layers, wide (all clones of one base) or deep (each a clone of the one
// before); every layer holds one small file of its own, the base 2000.  At N = 10 and N = 10,000,
// each operation 50 times: create_layer (a clone), commit_layer and remove_layer of clones made for
// it.  Per operation: microseconds in all (median), thereof in its checkpoint, bytes written, and
// device flushes.  Then the store is closed and opened; and fsck, without data, is timed.
//
//   layers_bench [--file PATH] [--layers N]
//       PATH: a store in a file, with real flushes; else in memory
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "device/device.h"
#include "engine/store.h"
#include "fsck/check.h"

using namespace lcfs;

namespace {

using Clock = std::chrono::steady_clock;

double micros_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

template <class T>
T must(Result<T> r) {
  if (r) return *std::move(r);
  fmt::print(stderr, "layers_bench: {}\n", r.error().text());
  std::exit(1);
}
void must(Status const& r) {
  if (r) return;
  fmt::print(stderr, "layers_bench: {}\n", r.error().text());
  std::exit(1);
}

// Lets the bench open the same device again.
class Shared final : public Device {
 public:
  explicit Shared(std::shared_ptr<Device> below) : below_(std::move(below)) {}
  [[nodiscard]] std::string const& name() const override { return below_->name(); }
  [[nodiscard]] std::uint64_t size() const override { return below_->size(); }
  Status read(std::uint64_t o, std::span<std::byte> into) override { return below_->read(o, into); }
  Status write(std::uint64_t o, std::span<iovec const> parts) override {
    return below_->write(o, parts);
  }
  Status flush() override { return below_->flush(); }
  Status discard(std::uint64_t o, std::uint64_t n) override { return below_->discard(o, n); }
  Status reserve(std::uint64_t o, std::uint64_t n) override { return below_->reserve(o, n); }
  Status release(std::uint64_t o, std::uint64_t n) override { return below_->release(o, n); }
  [[nodiscard]] bool always_backed() const override { return below_->always_backed(); }
  Status resize(std::uint64_t n) override { return below_->resize(n); }

 private:
  std::shared_ptr<Device> below_;
};

void add_file(Store& store, LayerId id, std::string const& name) {
  auto const layer = must(store.layer(id));
  auto const made = must(layer->create(layer->root(), name, {S_IFREG | 0644}));
  must(layer->write(made.inode, 0, std::as_bytes(std::span{name.data(), name.size()})));
}

void measure(Store& store, char const* what, int times, std::function<void(int)> const& op) {
  std::vector<double> all, inside;
  auto const before = store.stats();
  for (int i = 0; i < times; ++i) {
    auto const ns = store.stats().checkpoint_ns;
    auto const begin = Clock::now();
    op(i);
    all.push_back(micros_since(begin));
    inside.push_back(static_cast<double>(store.stats().checkpoint_ns - ns) / 1000);
  }
  auto const after = store.stats();
  auto const n = static_cast<std::uint64_t>(times);
  std::sort(all.begin(), all.end());
  std::sort(inside.begin(), inside.end());
  fmt::print("  {:14} {:9.1f} us, {:9.1f} in the checkpoint, {:6} bytes written, {:.1f} flushes\n",
             what, all[all.size() / 2], inside[inside.size() / 2],
             (after.device_written_bytes - before.device_written_bytes) / n,
             static_cast<double>(after.device_flushes - before.device_flushes) / times);
}

void operations(Store& store, LayerId parent, std::size_t count) {
  constexpr int kTimes = 50;
  std::vector<LayerId> made;
  fmt::print(" {} layers:\n", count);
  measure(store, "create_layer", kTimes, [&](int i) {
    made.push_back(must(store.create_layer("op" + std::to_string(i), parent)));
  });
  for (std::size_t i = 0; i < made.size(); ++i) add_file(store, made[i], "f");
  must(store.checkpoint());
  std::vector<LayerId> running;
  measure(store, "commit_layer", kTimes, [&](int i) {
    running.push_back(
        must(store.commit_layer(made[static_cast<std::size_t>(i)], "snap" + std::to_string(i))));
  });
  measure(store, "rename_layer", kTimes, [&](int i) {
    must(store.rename_layer(running[static_cast<std::size_t>(i)], "renamed" + std::to_string(i)));
  });
  measure(store, "remove_layer", kTimes,
          [&](int i) { must(store.remove_layer(running[static_cast<std::size_t>(i)])); });
  for (LayerId const id : made) must(store.remove_layer(id));
}

}  // namespace

int main(int argc, char** argv) {
  std::string path;
  std::size_t most = 10'000;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::string_view(argv[i]) == "--file") path = argv[i + 1];
    if (std::string_view(argv[i]) == "--layers") most = std::strtoull(argv[i + 1], nullptr, 10);
  }
  for (bool const deep : {false, true}) {
    constexpr std::uint64_t kSize = 2ull << 30;
    std::shared_ptr<Device> device =
        path.empty() ? make_memory_device(kSize)
                     : std::shared_ptr<Device>(must(create_file_device(path, kSize)));
    must(Store::format(*device, {}));
    auto store = must(Store::open(std::make_unique<Shared>(device), {}));
    fmt::print("{}, {}\n", deep ? "deep" : "wide", path.empty() ? "in memory" : path);
    LayerId const base = must(store->create_layer("base", 0));
    for (int i = 0; i < 2000; ++i) add_file(*store, base, "file" + std::to_string(i));
    LayerId last = base;
    std::size_t made = 1;
    auto const begin = Clock::now();
    for (std::size_t const stop : {std::size_t{10}, most}) {
      for (; made < stop; ++made) {
        last = must(store->create_layer("layer" + std::to_string(made), deep ? last : base));
        add_file(*store, last, "own" + std::to_string(made));
      }
      operations(*store, deep ? last : base, made);
    }
    fmt::print(" all: {:.1f} s\n", micros_since(begin) / 1e6);
    must(store->close());
    store.reset();
    auto const opening = Clock::now();
    store = must(Store::open(std::make_unique<Shared>(device), {}));
    fmt::print(" open: {:.1f} ms\n", micros_since(opening) / 1e3);
    auto const listing = Clock::now();
    std::size_t seen = 0;
    must(store->for_each_layer([&](LayerInfo const&) { return ++seen != 0; }));
    fmt::print(" list: {:.1f} ms for {}\n", micros_since(listing) / 1e3, seen);
    store.reset();
    fsck::Options options;
    options.data = false;
    auto const checking = Clock::now();
    auto const report = must(fsck::check(*device, options));
    fmt::print(" fsck: {:.2f} s, {} errors, {} nodes read\n", micros_since(checking) / 1e6,
               report.errors, report.counters.nodes_read);
    device.reset();
    if (!path.empty()) (void)std::remove(path.c_str());
  }
}
