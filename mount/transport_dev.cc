// SPDX-License-Identifier: Apache-2.0
// Threads that read /dev/fuse.
//
// One thread reads and answers the requests as long as none has to wait: no request is passed
// between threads, and the caches stay warm.  When this thread is about to block in the middle of a
// request (base/wait_hook.h), a thread on stand-by takes its place.  When requests queue up, more
// threads join, up to one per processor.  When a thread works on one request for long, a watcher
// that looks every few milliseconds admits another.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/wait_hook.h"
#include "device/device.h"
#include "mount/request.h"
#include "mount/transport.h"

namespace lcfs::mount {

Request& current_request() {
  thread_local Request request;
  return request;
}

namespace {

// FUSE_DEV_IOC_CLONE of the kernel.
constexpr unsigned long kClone = _IOR(229, 0, std::uint32_t);

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

// How long an idle thread polls for the next request before it sleeps.  A wake-up costs as much as
// several requests, above all in a virtual machine, so the thread polls as long as polling has
// succeeded lately.  It does not poll where the client, or other programs, need its processor: a
// thread that polls uses up its time slice and then has to wait when a request arrives, but a
// thread that sleeps is scheduled at once.
class Patience {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr auto kMost = std::chrono::microseconds(60);
  // Two polls are a few microseconds apart, unless another program had the processor in between.
  static constexpr auto kTakenAway = std::chrono::microseconds(500);

  [[nodiscard]] Clock::duration at(Clock::time_point now) const {
    return worth_ && now >= rest_until_ ? Clock::duration(kMost) : Clock::duration(0);
  }
  // Polling found a request.
  void paid() { ++hits_; }
  // Polling found nothing.  That is acceptable once in a few times.
  void in_vain(Clock::time_point now) {
    if (hits_ < kPays) rest(now);
    hits_ = 0;
  }
  void taken_away(Clock::time_point now) { rest(now); }
  // The thread slept for this time until a request came.
  void slept(Clock::duration time) {
    static bool const alone = std::thread::hardware_concurrency() < 2;
    worth_ = !alone && time < kMost;
  }

 private:
  // Suspends polling for a while; for longer if it was suspended shortly before.
  void rest(Clock::time_point now) {
    rest_ = now < rest_until_ + rest_ ? std::min(2 * rest_, kLongestRest) : kShortestRest;
    rest_until_ = now + rest_;
  }

  static constexpr Clock::duration kShortestRest = std::chrono::milliseconds(3),
                                   kLongestRest = std::chrono::seconds(1);
  static constexpr unsigned kPays = 3;
  bool worth_ = false;
  unsigned hits_ = 0;
  Clock::duration rest_{};
  Clock::time_point rest_until_{};
};

class DevTransport final : public Transport {
 public:
  DevTransport(int fd, TransportOptions const& options) : fd_(fd), options_(options) {
    if (options_.threads == 0)
      options_.threads = std::clamp(std::thread::hardware_concurrency() * 4, 4u, 32u);
    most_readers_ = std::clamp(std::thread::hardware_concurrency(), 1u, options_.threads);
  }
  ~DevTransport() override {
    join();
    for (int const fd : clones_) close(fd);
  }

  [[nodiscard]] char const* name() const override {
    return options_.clone_fd ? "dev, cloned descriptors" : "dev";
  }

  Status prepare() override { return {}; }

  Status start(Handler handler) override {
    handler_ = std::move(handler);
    LCFS_TRY(set_nonblocking(fd_));
    watch_ = std::thread([this] { watch(); });
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
    if (!watch_.joinable()) return;
    {
      std::lock_guard lock(mu_);
      ended_ = true;  // even if no thread could be started
      active_.notify_all();
    }
    watch_.join();
  }

 private:
  // A thread.  `reader`: it takes requests, and readers_ counts it.  Only the thread itself uses
  // this.
  struct Worker {
    DevTransport* transport = nullptr;
    bool reader = false;
    bool working = false;  // a reader with a request; working_ counts it
    unsigned busy = 0;     // requests in a row that were already waiting
    Patience patience{};
  };

  static Status set_nonblocking(int fd) {
    int const flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0) return {};
    return Error::io("cannot set O_NONBLOCK", errno).in("/dev/fuse");
  }

  Result<int> clone() {
    int const fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return Error::io("cannot open", errno).in("/dev/fuse");
    auto master = static_cast<std::uint32_t>(fd_);
    if (ioctl(fd, kClone, &master) != 0) {
      auto error = Error::io("cannot clone the session's descriptor", errno).in("/dev/fuse");
      close(fd);
      return error;
    }
    clones_.push_back(fd);
    return fd;
  }

  void serve(int fd) {
    device::AlignedBuffer buffer(kRequestRoom), room(kMaxData);
    Worker worker;
    worker.transport = this;
    // Before this thread blocks in the middle of a request, another one takes over.
    wait_hook() = {[](void* self) {
                     static_cast<Worker*>(self)->transport->resign(*static_cast<Worker*>(self));
                   },
                   &worker};
    Handler const work = [this, &worker] {
      taken_.fetch_add(1, std::memory_order_relaxed);
      working_.fetch_add(1, std::memory_order_relaxed);
      worker.working = true;
      handler_();
      if (std::exchange(worker.working, false)) working_.fetch_sub(1, std::memory_order_relaxed);
    };
    while (become_reader(worker) && take(worker, fd, buffer.span(), room.span(), work)) {
    }
    wait_hook() = {};
    std::lock_guard lock(mu_);
    ended_ = true;
    stand_by_.notify_all();
    active_.notify_all();
  }

  // Ensures that other requests are taken while all readers work on one request for long.  Sleeps
  // while no thread works.
  void watch() {
    std::unique_lock lock(mu_);
    std::uint64_t before = 0;
    while (!ended_) {
      std::uint64_t const now = taken_.load(std::memory_order_relaxed);
      unsigned const working = working_.load(std::memory_order_relaxed);
      if (working == 0 && now == before) {
        watching_ = false;
        active_.wait(lock, [this] { return watching_.load() || ended_; });
      } else if (working != 0 && working >= readers_ && now == before &&
                 wanted_ < options_.threads) {
        ++wanted_;  // an extra reader retires when there is nothing to do
        stand_by_.notify_one();
      }
      before = now;
      if (!ended_) active_.wait_for(lock, kLong);
    }
  }

  // Waits until a reader is wanted.  False: the session has ended.
  bool become_reader(Worker& worker) {
    if (worker.reader) return true;
    std::unique_lock lock(mu_);
    stand_by_.wait(lock, [this] { return readers_ < wanted_ || ended_; });
    if (ended_) return false;
    ++readers_;
    worker.reader = true;
    return true;
  }

  void resign(Worker& worker) {
    if (!worker.reader) return;
    worker.reader = false;
    if (std::exchange(worker.working, false)) working_.fetch_sub(1, std::memory_order_relaxed);
    std::lock_guard lock(mu_);
    --readers_;
    stand_by_.notify_one();
  }

  // Takes one request, or retires as a reader.  False: the session has ended.
  bool take(Worker& worker, int fd, std::span<std::byte> buffer, std::span<std::byte> room,
            Handler const& work) {
    auto served = serve_from_dev(fd, buffer, room, work);
    if (served == Answer::kNothing) {
      worker.busy = 0;
      if (look(worker, fd, buffer, room, work, served)) return served != Answer::kEnded;
      if (retire(worker)) return true;
      auto const begin = Patience::Clock::now();
      pollfd wait{fd, POLLIN, 0};
      poll(&wait, 1, -1);
      worker.patience.slept(Patience::Clock::now() - begin);
      wake_watch();
    } else if (++worker.busy >= kBusy) {
      worker.busy = 0;
      ask_for_help();
    }
    return served != Answer::kEnded;
  }

  // Polls for a request as long as that is worthwhile.  False: none came.
  bool look(Worker& worker, int fd, std::span<std::byte> buffer, std::span<std::byte> room,
            Handler const& work, Answer& served) {
    auto& patience = worker.patience;
    auto const begin = Patience::Clock::now();
    auto const until = begin + patience.at(begin);
    if (until == begin) return false;
    for (auto last = begin; last < until;) {
      relax();
      auto const now = Patience::Clock::now();
      if (now - last > Patience::kTakenAway) patience.taken_away(now);
      last = now;
      served = serve_from_dev(fd, buffer, room, work);
      if (served == Answer::kNothing) continue;
      patience.paid();
      return true;
    }
    patience.in_vain(Patience::Clock::now());
    return false;
  }

  void wake_watch() {
    if (watching_.exchange(true)) return;
    std::lock_guard lock(mu_);
    active_.notify_all();
  }

  // Many requests in a row were already waiting, so one more reader is needed.
  void ask_for_help() {
    std::lock_guard lock(mu_);
    if (wanted_ >= most_readers_) return;
    ++wanted_;
    stand_by_.notify_one();
  }

  // There is too little to do for this many readers.
  bool retire(Worker& worker) {
    std::lock_guard lock(mu_);
    if (wanted_ <= 1) return false;
    --wanted_;
    if (readers_ <= wanted_) return false;
    --readers_;
    worker.reader = false;
    return true;
  }

  static void relax() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
  }

  static constexpr unsigned kBusy = 64;
  static constexpr auto kLong = std::chrono::milliseconds(5);

  int const fd_;
  TransportOptions options_;
  unsigned most_readers_ = 1;
  Handler handler_;
  std::mutex mu_;
  std::condition_variable stand_by_, active_;
  unsigned readers_ = 0, wanted_ = 1;  // guarded by mu_, as is ended_
  bool ended_ = false;
  std::atomic<std::uint64_t> taken_{0};  // requests
  std::atomic<unsigned> working_{0};     // readers with a request
  std::atomic<bool> watching_{true};     // watch() is awake
  std::vector<int> clones_;
  std::vector<std::thread> threads_;
  std::thread watch_;
};

}  // namespace

Answer serve_from_dev(int fd, std::span<std::byte> buffer, std::span<std::byte> room,
                      Transport::Handler const& handler) {
  ssize_t const n = read(fd, buffer.data(), buffer.size());
  if (n < 0) {
    if (errno == EAGAIN) return Answer::kNothing;
    return errno == EINTR || errno == ENOENT
               ? Answer::kOne
               : Answer::kEnded;  // ENOENT: interrupted before it was read
  }
  if (static_cast<std::size_t>(n) < sizeof(fuse_in_header))
    return n != 0 ? Answer::kOne : Answer::kEnded;
  DevRoute route(fd);
  Request& request = current_request();
  request = Request{};
  request.route = &route;
  request.header = reinterpret_cast<fuse_in_header const*>(buffer.data());
  request.message = buffer.first(static_cast<std::size_t>(n));
  request.room = room;
  handler();
  request = Request{};
  return Answer::kOne;
}

std::unique_ptr<Transport> make_dev_transport(int fd, TransportOptions const& options) {
  return std::make_unique<DevTransport>(fd, options);
}

}  // namespace lcfs::mount
