// SPDX-License-Identifier: Apache-2.0
// A store in memory that tests can close, reopen, crash and check.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>

#include "device/device.h"
#include "engine/store.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

// Passes everything on to a device that outlives it: a Store owns its device, a test wants to keep
// it.
class SharedDevice : public Device {
 public:
  explicit SharedDevice(std::shared_ptr<Device> below) : below_(std::move(below)) {}
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
  Status refresh_size() override { return below_->refresh_size(); }
  Status resize(std::uint64_t n) override { return below_->resize(n); }

 protected:
  std::shared_ptr<Device> const below_;
};

class TestStore {
 public:
  explicit TestStore(std::uint64_t megabytes = 64, OpenOptions options = {});
  TestStore(std::shared_ptr<Device> device, OpenOptions options);  // formatted already
  ~TestStore();  // fsck: a test that left damage behind fails
  TestStore(TestStore const&) = delete;
  TestStore& operator=(TestStore const&) = delete;

  Store& operator*() { return *store_; }
  Store* operator->() { return store_.get(); }
  [[nodiscard]] std::shared_ptr<Device> const& device() { return device_; }

  void reopen();  // close() and open
  void crash();   // what was not checkpointed is gone
  // The space sum, and fsck with all checksums, of the durable state.  Makes a checkpoint.
  void check();

 private:
  void open();
  std::shared_ptr<Device> device_;
  OpenOptions options_;
  std::unique_ptr<Store> store_;
};

// Every finding as text; empty: clean.
std::string fsck_findings(Device& device, bool search = false);

// Fails the test with the error's text.
template <class T>
T must(Result<T> r) {
  if (!r) throw std::runtime_error(r.error().text());
  return *std::move(r);
}
inline void must(Status r) {
  if (!r) throw std::runtime_error(r.error().text());
}

}  // namespace lcfs::test
