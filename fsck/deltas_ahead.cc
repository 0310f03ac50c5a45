// SPDX-License-Identifier: Apache-2.0
#include "fsck/deltas_ahead.h"

#include <utility>

namespace lcfs::fsck {

DeltasAhead::DeltasAhead(LayerContext const& context, Options const& options)
    : context_(context), options_(options), results_(context.scan.order().size()) {
  if (!context.delta || options.threads < 2 || results_.size() < 2) return;
  for (unsigned t = 0; t < options.threads; ++t) threads_.emplace_back([this] { work(); });
}

DeltasAhead::~DeltasAhead() {
  {
    std::lock_guard const lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  for (auto& t : threads_) t.join();
}

std::unique_ptr<LayerDelta> DeltasAhead::compare(std::size_t index) const {
  auto const& layer = *context_.scan.order()[index];
  auto const* parent = context_.scan.layer(layer.info.parent);
  if (!context_.delta || parent == nullptr || parent->info.root == layer.info.root) return nullptr;
  auto delta = std::make_unique<LayerDelta>(context_.source, context_.scan, context_.superblock,
                                            layer, *parent);
  if (!delta->sound()) return nullptr;
  if (!context_.data) delta->drop_nodes();
  return delta;
}

void DeltasAhead::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] {
      return ending_ || next_ == results_.size() || next_ < taken_ + options_.threads;
    });
    if (ending_ || next_ == results_.size()) return;
    auto const index = next_++;
    lock.unlock();
    auto result = options_.stopped() ? nullptr : compare(index);
    lock.lock();
    results_[index] = std::move(result);
    changed_.notify_all();
  }
}

std::unique_ptr<LayerDelta> DeltasAhead::take(std::size_t index) {
  if (threads_.empty()) return compare(index);
  std::unique_lock lock(mutex_);
  taken_ = index;
  changed_.notify_all();
  changed_.wait(lock, [&] { return results_[index].has_value(); });
  return *std::exchange(results_[index], std::unique_ptr<LayerDelta>{});
}

}  // namespace lcfs::fsck
