// SPDX-License-Identifier: Apache-2.0
// Threads that read /dev/fuse.
//
// One of them takes the requests and answers them, as long as none has to wait: nothing is handed
// over, and what it needs is warm. When it is about to wait in the middle of a request
// (device/wait_hook.h), another that stands by takes its place; when requests pile up, others join
// it, up to one for each processor; and when one works long on a request, so that others would have
// to wait for it, a thread that looks every few milliseconds lets another in.
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

#include "device/device.h"
#include "device/wait_hook.h"
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

// How long a thread with nothing to do looks for the next request before it sleeps.  To be woken
// costs as much as several requests, above all in a virtual machine; so it looks as long as looking
// has paid lately.  It does not where the client needs the processor that looks, nor where others
// want it: who looks uses up the time that is due to it, and is made to wait for as long as theirs
// when a request has come; who sleeps is let in at once.
class Patience {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr auto kMost = std::chrono::microseconds(60);
  // From one look to the next it takes a few microseconds, unless somebody else has had the
  // processor.
  static constexpr auto kTakenAway = std::chrono::microseconds(500);

  [[nodiscard]] Clock::duration at(Clock::time_point now) const {
    return worth_ && now >= rest_until_ ? Clock::duration(kMost) : Clock::duration(0);
  }
  // It looked, and a request came.
  void paid() { ++hits_; }
  // It looked for nothing.  That may be once in a few times.
  void in_vain(Clock::time_point now) {
    if (hits_ < kPays) rest(now);
    hits_ = 0;
  }
  void taken_away(Clock::time_point now) { rest(now); }
  // It slept; a request came after this time.
  void slept(Clock::duration time) {
    static bool const alone = std::thread::hardware_concurrency() < 2;
    worth_ = !alone && time < kMost;
  }

 private:
  // Sleeps at once for a while, and longer if it comes to that again soon after.
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
      ended_ = true;  // also if no thread could be started
      active_.notify_all();
    }
    watch_.join();
  }

 private:
  // A thread of ours; `reader` says whether it is one of those that take requests.  Its own
  // business but for readers_.
  struct Worker {
    DevTransport* transport = nullptr;
    bool reader = false;
    bool working = false;  // on a request, as a reader: counted in working_
    unsigned busy = 0;     // requests in a row that were there already
    Patience patience{};
  };

  static Status set_nonblocking(int fd) {
    int const flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0) return {};
    return Error{Errc::kIo, "cannot set O_NONBLOCK", errno, "/dev/fuse", kNoOffset};
  }

  Result<int> clone() {
    int const fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return Error{Errc::kIo, "cannot open", errno, "/dev/fuse", kNoOffset};
    auto master = static_cast<std::uint32_t>(fd_);
    if (ioctl(fd, kClone, &master) != 0) {
      Error error{Errc::kIo, "cannot clone the session's descriptor", errno, "/dev/fuse",
                  kNoOffset};
      close(fd);
      return error;
    }
    clones_.push_back(fd);
    return fd;
  }

  void serve(int fd) {
    AlignedBuffer buffer(kRequestRoom), room(kMaxData);
    Worker worker;
    worker.transport = this;
    // What waits in the middle of a request lets another thread take the next ones.
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

  // Sees to it that nobody who works long on a request is the only one that takes them.  Sleeps
  // while nobody works.
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
        ++wanted_;  // it retires by itself when there is nothing to do
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

  // One request, or the end of the thread's time as a reader.  False: the session has ended.
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

  // Looks for a request as long as that is worth it.  False: none came.
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

  // Many requests in a row were there already: one reader is not enough.
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
  unsigned readers_ = 0, wanted_ = 1;  // under mu_, as the next one
  bool ended_ = false;
  std::atomic<std::uint64_t> taken_{0};  // requests
  std::atomic<unsigned> working_{0};     // readers that have one in hand
  std::atomic<bool> watching_{true};     // watch() does not sleep
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
