// SPDX-License-Identifier: Apache-2.0
// Counts the progress of an import and reports it to the caller from time to time.  Thread safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "base/sync.h"
#include "importer/import.h"

namespace lcfs::importer {

class ProgressMeter {
 public:
  explicit ProgressMeter(std::function<void(Progress const&)> tell) : tell_(std::move(tell)) {}

  void expect(std::uint64_t bytes, std::size_t layers) {
    Lock const lock(mu_);
    now_.total = bytes;
    now_.layers = static_cast<std::uint32_t>(layers);
  }
  void read(std::uint64_t bytes) {
    Lock const lock(mu_);
    now_.bytes += bytes;
    tell_now_and_then();
  }
  void layer_begun(std::string const& member) {
    Lock const lock(mu_);
    now_.layer = member;
    tell_now_and_then();
  }
  void layer_done() {
    Lock const lock(mu_);
    ++now_.layers_done;
    tell_now_and_then();
  }
  void finished() {
    Lock const lock(mu_);
    if (tell_) tell_(now_);
  }
  [[nodiscard]] std::uint64_t bytes() const {
    Lock const lock(mu_);
    return now_.bytes;
  }

 private:
  void tell_now_and_then() LCFS_REQUIRES(mu_) {
    if (!tell_) return;
    auto const time = std::chrono::steady_clock::now();
    if (time - told_ < std::chrono::milliseconds(100)) return;
    told_ = time;
    tell_(now_);
  }

  mutable Mutex mu_;
  std::function<void(Progress const&)> const tell_;
  Progress now_ LCFS_GUARDED_BY(mu_){};
  std::chrono::steady_clock::time_point told_ LCFS_GUARDED_BY(mu_){};
};

}  // namespace lcfs::importer
