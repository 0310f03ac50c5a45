// SPDX-License-Identifier: Apache-2.0
// Threads that read /dev/fuse.
//
// The kernel wakes those that wait in read() in turn, so many of them would all run cold: only kReaders wait there, the rest stand
// by until all readers have something to do.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "device/device.h"
#include "mount/request.h"
#include "mount/transport.h"

namespace lcfs::mount {

Request& current_request() {
  thread_local Request request;
  return request;
}

namespace {

// FUSE_DEV_IOC_CLONE, as the kernel has it.
constexpr unsigned long kClone = _IOR(229, 0, std::uint32_t);

constexpr unsigned kReaders = 2;

class DevRoute final : public Route {
 public:
  explicit DevRoute(int fd) : fd_(fd) {}
  ssize_t reply(iovec const* iov, int count) override {
    for (;;) {
      ssize_t const n = writev(fd_, iov, count);
      if (n >= 0) return n;
      if (errno != EINTR) return -errno;
    }
  }

 private:
  int fd_;
};

class DevTransport final : public Transport {
 public:
  DevTransport(int fd, TransportOptions const& options) : fd_(fd), options_(options) {
    if (options_.threads == 0) options_.threads = std::clamp(std::thread::hardware_concurrency() * 4, 4u, 32u);
  }
  ~DevTransport() override {
    join();
    for (int const fd : clones_) close(fd);
  }

  [[nodiscard]] char const* name() const override { return options_.clone_fd ? "dev, cloned descriptors" : "dev"; }

  Status prepare() override { return {}; }

  Status start(Handler handler) override {
    handler_ = std::move(handler);
    for (unsigned i = 0; i < options_.threads; ++i) {
      int fd = fd_;
      if (options_.clone_fd && i != 0) {
        LCFS_TRY_ASSIGN(fd, clone());
      }
      threads_.emplace_back([this, fd] { serve(fd); });
    }
    return {};
  }

  void join() override {
    for (auto& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }

 private:
  Result<int> clone() {
    int const fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fd < 0) return Error{Errc::kIo, "cannot open", errno, "/dev/fuse", kNoOffset};
    auto master = static_cast<std::uint32_t>(fd_);
    if (ioctl(fd, kClone, &master) != 0) {
      Error error{Errc::kIo, "cannot clone the session's descriptor", errno, "/dev/fuse", kNoOffset};
      close(fd);
      return error;
    }
    clones_.push_back(fd);
    return fd;
  }

  void serve(int fd) {
    AlignedBuffer buffer(kRequestRoom), room(kMaxData);
    std::function<void()> const taken = [this] { leave(); };
    do {
      enter();
    } while (serve_from_dev(fd, buffer.span(), room.span(), handler_, taken));
    std::lock_guard lock(mu_);
    ended_ = true;
    stand_by_.notify_all();
  }

  void enter() {
    std::unique_lock lock(mu_);
    if (readers_ >= kReaders && !ended_) {
      ++standing_by_;
      stand_by_.wait(lock, [this] { return readers_ < kReaders || ended_; });
      --standing_by_;
    }
    ++readers_;
  }

  void leave() {
    std::lock_guard lock(mu_);
    if (--readers_ == 0 && standing_by_ != 0) stand_by_.notify_one();
  }

  int const fd_;
  TransportOptions options_;
  Handler handler_;
  std::mutex mu_;
  std::condition_variable stand_by_;
  unsigned readers_ = 0, standing_by_ = 0;  // under mu_, as the next one
  bool ended_ = false;
  std::vector<int> clones_;
  std::vector<std::thread> threads_;
};

}  // namespace

bool serve_from_dev(int fd, std::span<std::byte> buffer, std::span<std::byte> room, Transport::Handler const& handler,
                    std::function<void()> const& taken) {
  ssize_t const n = read(fd, buffer.data(), buffer.size());
  int const error = errno;
  if (taken) taken();
  if (n < 0) return error == EINTR || error == EAGAIN || error == ENOENT;  // ENOENT: interrupted before it was read
  if (static_cast<std::size_t>(n) < sizeof(fuse_in_header)) return n != 0;
  DevRoute route(fd);
  Request& request = current_request();
  request = Request{};
  request.route = &route;
  request.header = reinterpret_cast<fuse_in_header const*>(buffer.data());
  request.message = buffer.first(static_cast<std::size_t>(n));
  request.room = room;
  handler();
  request = Request{};
  return true;
}

std::unique_ptr<Transport> make_dev_transport(int fd, TransportOptions const& options) {
  return std::make_unique<DevTransport>(fd, options);
}

}  // namespace lcfs::mount
