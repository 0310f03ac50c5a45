// SPDX-License-Identifier: Apache-2.0
#include "engine/import/write_queue.h"

namespace lcfs {

WriteQueue::~WriteQueue() {
  std::vector<std::thread> threads;
  {
    Lock lock(mu_);
    stop_ = true;
    work_cv_.notify_all();
    threads.swap(threads_);
  }
  for (auto& t : threads) t.join();
}

AlignedBuffer WriteQueue::take_buffer() {
  Lock lock(mu_);
  while (free_.empty() && made_ >= kBuffers) lock.wait(free_cv_);
  if (free_.empty()) {
    ++made_;
    return AlignedBuffer(kBuffer);
  }
  AlignedBuffer buffer = std::move(free_.back());
  free_.pop_back();
  return buffer;
}

void WriteQueue::return_buffer(AlignedBuffer buffer) {
  Lock lock(mu_);
  free_.push_back(std::move(buffer));
  free_cv_.notify_one();
}

void WriteQueue::submit(std::uint64_t offset, AlignedBuffer buffer, std::size_t size, Sink& sink) {
  Lock lock(mu_);
  ++sink.pending;
  jobs_.push_back({offset, std::move(buffer), size, &sink});
  if (threads_.size() < kThreads) threads_.emplace_back([this] { run(); });
  work_cv_.notify_one();
}

Status WriteQueue::wait(Sink& sink) {
  Lock lock(mu_);
  while (sink.pending != 0) lock.wait(done_cv_);
  if (sink.error) return *sink.error;
  return {};
}

Status WriteQueue::check(Sink& sink) {
  Lock lock(mu_);
  if (sink.error) return *sink.error;
  return {};
}

void WriteQueue::run() {
  for (;;) {
    Job job;
    {
      Lock lock(mu_);
      while (jobs_.empty() && !stop_) lock.wait(work_cv_);
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    Status const ok =
        device_.write(job.offset, std::span<std::byte const>(job.buffer.data(), job.size));
    Lock lock(mu_);
    if (!ok && !job.sink->error) job.sink->error = ok.error();
    --job.sink->pending;
    free_.push_back(std::move(job.buffer));
    free_cv_.notify_one();
    done_cv_.notify_all();
  }
}

}  // namespace lcfs
