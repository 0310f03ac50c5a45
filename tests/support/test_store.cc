// SPDX-License-Identifier: Apache-2.0
#include "tests/support/test_store.h"

#include <doctest/doctest.h>

#include "fsck/check.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

std::string fsck_findings(Device& device, bool search) {
  fsck::Options options;
  options.search = search;
  auto report = fsck::check(device, options);
  if (!report) return report.error().text();
  std::string out;
  for (auto const& f : report->findings) {
    if (f.severity == fsck::Severity::kError) out += f.line() + "\n";
  }
  return out;
}

TestStore::TestStore(std::uint64_t megabytes, OpenOptions options)
    : device_(make_memory_device(megabytes << 20)), options_(options) {
  must(Store::format(*device_, {}));
  open();
}

TestStore::TestStore(std::shared_ptr<Device> device, OpenOptions options)
    : device_(std::move(device)), options_(options) {
  open();
}

TestStore::~TestStore() {
  store_.reset();
  CHECK(fsck_findings(*device_) == "");
}

void TestStore::open() {
  store_ = must(Store::open(std::make_unique<SharedDevice>(device_), options_));
}

void TestStore::reopen() {
  must(store_->close());
  store_.reset();
  open();
}

void TestStore::crash() {
  store_.reset();
  open();
}

void TestStore::check() {
  must(store_->checkpoint());
  auto const s = store_->space();
  CHECK(s.total == s.reserved + s.store_tree + s.layers + s.history + s.pending + s.free);
  CHECK(fsck_findings(*device_) == "");
}

}  // namespace lcfs::test
