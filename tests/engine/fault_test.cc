// SPDX-License-Identifier: Apache-2.0
// A device that refuses: each effect and each read of each operation in turn.  The error is told,
// nothing that was durable is lost, and either all goes on as if nothing had been, or the store is
// read-only and says why.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "exporter/export.h"
#include "tests/support/contents.h"
#include "tests/support/faulty_device.h"
#include "tests/support/life.h"
#include "tests/support/operations.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

std::shared_ptr<Device> prepared_disk() {
  auto disk = fresh_disk();
  auto const store = must(Store::open(std::make_unique<SharedDevice>(disk), {}));
  must(prepare_operations(*store));
  must(store->close());
  return disk;
}

State state_on(std::shared_ptr<Device> const& disk) {
  OpenOptions options;
  options.read_only = true;
  return state_of(*must(Store::open(std::make_unique<SharedDevice>(disk), options)));
}

// The file of the layer below, wherever that has a name.
std::optional<std::string> inherited(Store& store) {
  auto const info = store.find_layer("base");
  if (!info) return std::nullopt;
  auto const layer = must(store.layer(info->id));
  auto const at = must(layer->lookup(layer->root(), "inherited"));
  std::string text(at.info.size, '?');
  must(layer->read(at.inode, 0, std::as_writable_bytes(std::span{text.data(), text.size()})));
  return text;
}

struct Trial {
  bool fired = false, failed = false;
};

// One operation on a copy of `first`, with the fault that `plan` makes; judged.
Trial attempt(Device& first, Operation const& op, State const& before, State const& after,
              std::function<void(FaultyDevice&)> const& plan) {
  Trial trial;
  std::shared_ptr<Device> const disk = copy_of(first);
  auto const faulty = std::make_shared<FaultyDevice>(*disk);
  bool next_done = false;
  {
    auto const store = must(Store::open(std::make_unique<SharedDevice>(faulty), {}));
    plan(*faulty);
    auto const done = op.run(*store);
    trial.failed = !done.ok();
    trial.fired = faulty->fired();
    if (trial.failed) {
      CHECK(trial.fired);  // or it would always fail
      CHECK(done.error().to_errno() != 0);
      CHECK(done.error().text() != "");
    }
    faulty->heal();
    auto const next = store->create_layer("afterwards", 0);
    next_done = next.ok();
    if (!next) {
      CHECK(trial.fired);
      CHECK(next.error().code == Errc::kReadOnly);
      REQUIRE(store->failure());
      CHECK(store->failure()->text() != "");
    }
    // What was durable can be read in any case; of what was not, a store that is read-only says EIO
    // or EROFS.
    if (auto const text = inherited(*store)) CHECK(*text == std::string(150000, 'i'));
    if (!store->failure()) CHECK(state_of(*store).contains("afterwards"));
  }
  CHECK(fsck_findings(*disk) == "");
  auto now = state_on(disk);
  CHECK(now.contains("afterwards") == next_done);
  now.erase("afterwards");
  if (trial.failed)
    CHECK((now == before || now == after));
  else
    CHECK(now == after);
  return trial;
}

// least: so many faults that an operation has to tell.
template <class Plan>
void sweep(Plan const& plan, int least = 1) {
  auto const disk = prepared_disk();
  auto const before = state_on(disk);
  for (auto const& op : operations()) {
    CAPTURE(std::string(op.name));
    std::shared_ptr<Device> const good = copy_of(*disk);
    {
      auto const store = must(Store::open(std::make_unique<SharedDevice>(good), {}));
      must(op.run(*store));
    }
    auto const after = state_on(good);
    int failed = 0;
    for (std::uint64_t nth = 0;; ++nth) {
      CAPTURE(nth);
      REQUIRE(nth < 500);
      auto const trial =
          attempt(*disk, op, before, after, [&](FaultyDevice& device) { plan(device, nth); });
      failed += trial.failed ? 1 : 0;
      if (!trial.fired) break;  // every one has had its turn
    }
    CHECK(failed >= least);
  }
}

}  // namespace

TEST_CASE("fault: each write, flush or reserve refused once with EIO is told, and loses nothing") {
  sweep([](FaultyDevice& device, std::uint64_t nth) { device.fail_effect(nth, EIO); });
}

TEST_CASE("fault: each of them refused once with ENOSPC is told, and loses nothing") {
  sweep([](FaultyDevice& device, std::uint64_t nth) { device.fail_effect(nth, ENOSPC); });
}

TEST_CASE("fault: a device that takes nothing more from the nth effect on loses nothing") {
  sweep([](FaultyDevice& device, std::uint64_t nth) {
    device.fail_effect(nth, EIO, Repeat::kForEver);
  });
}

TEST_CASE("fault: each write torn in its middle is told, and loses nothing") {
  sweep([](FaultyDevice& device, std::uint64_t nth) { device.tear_write(nth, 5000, EIO); });
}

TEST_CASE("fault: each read refused with EIO is told, and loses nothing") {
  // An import and growing read nothing that is not in memory here.
  sweep([](FaultyDevice& device, std::uint64_t nth) { device.fail_read(nth, EIO); }, 0);
}

TEST_CASE(
    "fault: each read of an export refused is told, and nothing is written that is not what it "
    "should be") {
  class Text final : public exporter::ByteSink {
   public:
    Status write(std::span<std::byte const> bytes) override {
      text.append(reinterpret_cast<char const*>(bytes.data()), bytes.size());
      return {};
    }
    std::string text{};
  };
  auto const disk = prepared_disk();
  {
    auto const store = must(Store::open(std::make_unique<SharedDevice>(disk), {}));
    for (auto const& op : operations())
      if (std::string(op.name) == "import") must(op.run(*store));
    must(store->close());
  }
  auto const whole = [](Store& store, Text& out) {
    exporter::ExportOptions options;
    options.names = {"test"};
    options.stream = &out;
    options.latest = 0;
    options.threads = 1;
    return exporter::export_archive(store, options);
  };
  Text good;
  {
    auto const store = must(Store::open(std::make_unique<SharedDevice>(disk), {}));
    must(whole(*store, good));
  }
  REQUIRE(good.text.size() > 5000);
  int told = 0;
  for (std::uint64_t nth = 0;; ++nth) {
    CAPTURE(nth);
    REQUIRE(nth < 500);
    auto const faulty = std::make_shared<FaultyDevice>(*disk);
    auto const store = must(Store::open(std::make_unique<SharedDevice>(faulty), {}));
    faulty->fail_read(nth, EIO);
    Text out, again;
    auto const done = whole(*store, out);
    bool const fired = faulty->fired();
    if (done) {
      CHECK(out.text == good.text);
    } else {
      ++told;
      CHECK(fired);
      CHECK(done.error().to_errno() == EIO);
    }
    faulty->heal();
    must(whole(*store, again));
    CHECK(again.text == good.text);
    if (!fired) break;
  }
  CHECK(told > 0);
}

TEST_CASE(
    "fault: an effect refused in a row of operations, on layers in use, is told, and what was "
    "durable stays") {
  for (int sys : {EIO, ENOSPC}) {
    for (std::uint64_t nth = 1;; ++nth) {
      CAPTURE(sys);
      CAPTURE(nth);
      std::shared_ptr<Device> const disk = fresh_disk();
      auto faulty = std::make_shared<FaultyDevice>(*disk);
      bool told = false, fired = false;
      {
        auto store = must(Store::open(std::make_unique<SharedDevice>(faulty), {}));
        must(store->create_layer("before", 0));
        faulty->fail_effect(nth, sys);
        auto work = [&]() -> Status {
          LCFS_TRY_ASSIGN(LayerId const id, store->create_layer("a", 0));
          LCFS_TRY_ASSIGN(auto layer, store->layer(id));
          LCFS_TRY_ASSIGN(Attr const f, layer->create(layer->root(), "f", {S_IFREG | 0644}));
          std::string const data(300000, 'x');
          LCFS_TRY(layer->write(f.inode, 0, std::as_bytes(std::span{data.data(), data.size()})));
          LCFS_TRY(layer->fsync(f.inode));
          LCFS_TRY_ASSIGN(LayerId const running, store->create_layer("b", id));
          LCFS_TRY_ASSIGN(auto const in_use, store->layer(running));
          LCFS_TRY(in_use->create(in_use->root(), "g", {S_IFREG | 0644}));
          LCFS_TRY_ASSIGN(LayerId const next, store->commit_layer(running, "snap"));
          LCFS_TRY(store->rename_layer(running, "snapshot"));
          LCFS_TRY(store->set_quota(next, 1000));
          LCFS_TRY(store->grow(33u << 20));
          LCFS_TRY(store->remove_layer(next));
          LCFS_TRY(in_use->create(in_use->root(), "h", {S_IFREG | 0644}));
          return store->close();
        };
        auto const r = work();
        told = !r.ok();
        if (told) CHECK(r.error().to_errno() != 0);
        // Either it goes on as if nothing had been, or it says why it does not.
        auto const next = store->create_layer("next", 0);
        if (!next && told) CHECK(next.error().code == Errc::kReadOnly);
        fired = faulty->fired();
      }
      CHECK(fsck_findings(*disk) == "");
      auto store = must(Store::open(std::make_unique<SharedDevice>(disk), {}));
      CHECK(state_of(*store).contains("before"));
      if (!fired) break;  // every effect has had its turn
      REQUIRE(nth < 200);
    }
  }
}
