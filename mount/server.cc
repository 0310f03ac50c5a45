// SPDX-License-Identifier: Apache-2.0
#include "mount/server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "mount/log.h"
#include "mount/memory_pressure.h"
#include "mount/mount.h"
#include "mount/mount_table.h"
#include "mount/report.h"
#include "mount/session.h"
#include "mount/transport.h"

namespace lcfs::mount {
namespace {

constexpr unsigned kCheckpointSeconds = 5;
constexpr auto kIdle = std::chrono::seconds(60);
constexpr auto kExpireEvery = std::chrono::milliseconds(100);
constexpr auto kDetachPatience = std::chrono::seconds(10);
// umount(8) returns before the previous server has flushed.
constexpr auto kLockPatience = std::chrono::seconds(10);

// A server that is about to exit can still hold the lock.
Result<std::unique_ptr<Device>> wait_for_device(std::string const& path, Access access) {
  auto const until = std::chrono::steady_clock::now() + kLockPatience;
  for (;;) {
    auto device = open_device(path, access);
    if (device || device.error().code != Errc::kBusy || std::chrono::steady_clock::now() > until)
      return device;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

// Background work: a checkpoint every few seconds, which limits what a crash can lose; freeing
// memory when the mount is idle; and expiring removed layers.
class Housekeeping {
 public:
  Housekeeping(Mount& mount, unsigned seconds)
      : mount_(mount), store_(mount.store), every_(seconds), thread_([this] { run(); }) {}
  ~Housekeeping() {
    {
      std::lock_guard lock(mu_);
      stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }
  Housekeeping(Housekeeping const&) = delete;
  Housekeeping& operator=(Housekeeping const&) = delete;

  // Writes dirty data now, because there is a lot of it.
  void hurry() { wake(hurry_); }
  void layer_removed() { wake(removed_); }

 private:
  void wake(bool& why) {
    {
      std::lock_guard lock(mu_);
      why = true;
    }
    wake_.notify_all();
  }

  void run() {
    using Clock = std::chrono::steady_clock;
    auto next = Clock::now() + every_;
    bool expiring = false;
    for (;;) {
      bool write = false;
      {
        std::unique_lock lock(mu_);
        auto const until = expiring ? std::min(next, Clock::now() + kExpireEvery) : next;
        wake_.wait_until(lock, until, [this] { return stop_ || hurry_ || removed_; });
        if (stop_) return;
        write = std::exchange(hurry_, false) || Clock::now() >= next;
        removed_ = false;
      }
      expiring = mount_.expire_removed();
      if (!write) continue;
      next = Clock::now() + every_;
      if (auto done = store_.checkpoint(); !done && !told_) {
        log(Level::kError, "checkpoint: " + done.error().text());
        told_ = true;
      }
      rest_if_idle();
    }
  }

  void rest_if_idle() {
    auto const now = std::chrono::steady_clock::now();
    if (auto const count = mount_.requests.load(); count != last_count_) {
      last_count_ = count;
      last_request_ = now;
      resting_ = false;
    } else if (!resting_ && now - last_request_ > kIdle) {
      store_.drop_caches();
      malloc_trim(0);
      resting_ = true;
    }
  }

  Mount& mount_;
  Store& store_;
  std::chrono::seconds const every_;
  bool told_ = false, resting_ = false;
  std::uint64_t last_count_ = 0;
  std::chrono::steady_clock::time_point last_request_ = std::chrono::steady_clock::now();
  std::mutex mu_;
  std::condition_variable wake_;
  bool stop_ = false, hurry_ = false, removed_ = false;  // under mu_
  std::thread thread_;
};

// The connection from the background process to the process that waits for it.
class Parent {
 public:
  explicit Parent(int fd) : fd_(fd) {}
  ~Parent() {
    if (fd_ >= 0) close(fd_);
  }
  Parent(Parent const&) = delete;
  Parent& operator=(Parent const&) = delete;
  // The mount is ready.  From here on nobody reads our standard output and error.
  void ready() {
    if (fd_ < 0) return;
    log_to_syslog();
    int const null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
      for (int fd = 0; fd <= 2; ++fd) dup2(null, fd);
      close(null);
    }
    send("R");
  }
  // Reports an error.  False: ready() was called before, and nobody waits.
  bool failed(Error const& error) {
    if (fd_ < 0) return false;
    send("E" + error.text());
    return true;
  }

 private:
  void send(std::string_view text) {
    while (!text.empty()) {
      ssize_t const n = write(fd_, text.data(), text.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      text.remove_prefix(static_cast<std::size_t>(n));
    }
    close(fd_);
    fd_ = -1;
  }
  int fd_;
};

sigset_t ending_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int const signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, signal);
  return set;
}

// SIGINT, SIGTERM and SIGHUP unmount the store: the mount is detached at once, and the server exits
// when the last file is closed.  After kDetachPatience, or at a second signal, it makes all changes
// durable and exits anyway; programs with open files then get errors.  The signals are blocked in
// all threads; a thread of this class waits for them.
class SignalWatch {
 public:
  SignalWatch(Session& session, Store& store)
      : session_(session), store_(store), thread_([this] { run(); }) {}
  ~SignalWatch() {
    stop_ = true;
    pthread_kill(thread_.native_handle(), SIGTERM);  // wakes it
    thread_.join();
  }
  SignalWatch(SignalWatch const&) = delete;
  SignalWatch& operator=(SignalWatch const&) = delete;

 private:
  void run() {
    sigset_t const set = ending_signals();
    int signal = 0;
    if (sigwait(&set, &signal) != 0 || stop_) return;
    log(Level::kInfo, fmt::format("signal {}: unmounting", signal));
    session_.detach();
    timespec const patience{kDetachPatience.count(), 0};
    while (sigtimedwait(&set, nullptr, &patience) < 0 && errno == EINTR) {
    }
    if (stop_) return;
    auto const done = store_.checkpoint();
    log(done ? Level::kWarning : Level::kError,
        done ? "unmounted although files are still open; their users get errors, nothing written "
               "is lost"
             : done.error().text());
    _exit(done ? 0 : 1);
  }
  Session& session_;
  Store& store_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

Result<std::string> stats_text(Mount& mount, StatsFormat format, std::optional<LayerId> layer,
                               bool clear) {
  Report const report = format == StatsFormat::kText   ? Report::kStatsText
                        : format == StatsFormat::kJson ? Report::kStatsJson
                                                       : Report::kStatsPrometheus;
  if (!layer) return make_report(mount, report, nullptr, clear);
  LCFS_TRY_ASSIGN(auto const info, mount.store.layer_info(*layer));
  LCFS_TRY_ASSIGN(auto const served, mount.layers.serve(info));
  return make_report(mount, report, served.get(), clear);
}

// Raises the kernel's read-ahead from 128 KiB to our largest request, 1 MiB, which makes sequential
// reads faster.  Only root can do this; other users do without.
void raise_kernel_read_ahead(MountOptions const& options) {
  auto const directory = mount_point_path(options.directory);
  auto const mounts = lcfs_mounts();
  if (!directory || !mounts) return;
  for (auto const& entry : *mounts) {
    if (entry.directory != *directory) continue;
    std::ofstream file("/sys/class/bdi/" + entry.device + "/read_ahead_kb");
    file << kMaxData / 1024 << '\n';
  }
}

Result<int> run_server(MountOptions const& given, ServeHooks const& hooks, Parent& parent) {
  MountOptions options = given;
  sigset_t const set = ending_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);  // inherited by every later thread
  signal(SIGPIPE, SIG_IGN);

  LCFS_TRY_ASSIGN(
      auto device,
      wait_for_device(options.store, options.read_only() ? Access::kReadOnly : Access::kReadWrite));
  OpenOptions open;
  open.read_only = options.read_only();
  open.at = options.at;
  open.verify_data = options.verify_data;
  if (options.node_cache) open.node_cache = *options.node_cache;
  if (options.dirty_data) open.dirty_data = *options.dirty_data;
  LCFS_TRY_ASSIGN(auto store, Store::open(std::move(device), open));

  {
    std::optional<LayerInfo> only;
    if (!options.layer.empty()) {
      LCFS_TRY_ASSIGN(LayerId const id, store->resolve_layer(options.layer));
      LCFS_TRY_ASSIGN(only, store->layer_info(id));
      if (only->state == LayerState::kFrozen) options.vfs.set |= MS_RDONLY;
    }
    Mount mount(*store, options);
    if (only) {
      LCFS_TRY_ASSIGN(mount.only, mount.layers.serve(*only));
    }
    LCFS_TRY_ASSIGN(auto session, Session::make(mount));
    Serving const serving{*store, options.store,
                          [&mount](StatsFormat format, std::optional<LayerId> layer, bool clear) {
                            return stats_text(mount, format, layer, clear);
                          }};
    std::optional<Housekeeping> housekeeping(std::in_place, mount,
                                             options.checkpoint.value_or(kCheckpointSeconds));
    mount.write_back = [&housekeeping] { housekeeping->hurry(); };
    mount.layer_removed = [&housekeeping] { housekeeping->layer_removed(); };
    std::unique_ptr<ControlServer> control;
    if (options.control && !options.control_socket.empty()) {
      ControlServerOptions wanted;
      wanted.socket = options.control_socket;
      auto const start = [&] {
        return ControlServer::start(
            wanted, [&](ControlRequest& request) { return hooks.run_command(request, serving); });
      };
      auto started = start();
      // As for the lock, which read-only servers share: a server that is about to exit can still
      // listen.
      for (auto const until = std::chrono::steady_clock::now() + kLockPatience;
           !started && started.error().code == Errc::kBusy &&
           std::chrono::steady_clock::now() < until;
           started = start())
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
      if (!started) return std::move(started).error();
      control = *std::move(started);
    }
    LCFS_TRY(session->start());
    raise_kernel_read_ahead(options);
    std::string const line =
        fmt::format("{} on {} over {}", options.store, options.directory, session->transport());
    if (options.verbose) fmt::print(stderr, "lcfs: {}\n", line);
    parent.ready();
    log(Level::kInfo, "serving " + line);
    {
      MemoryPressure const pressure([&store] { store->drop_caches(); });
      SignalWatch const signals(*session, *store);
      session->join();
    }
    if (control) control->stop();
    log(Level::kInfo, "unmounted " + options.directory);
    housekeeping.reset();  // uses the session
    session.reset();
  }
  LCFS_TRY(store->close());
  return 0;
}

// Opens a file and a directory, so that the kernel learns from the answers (ENOSYS) that it need
// not send OPEN and OPENDIR; before that it would also send a RELEASE for every file it creates.
// Called in the process that does not serve, because a server must not wait for itself.
void teach_kernel(MountOptions const& options) {
  int const directory = open(options.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return;
  if (int const file = openat(directory, ".lcfs/space.json", O_RDONLY | O_CLOEXEC); file >= 0)
    close(file);
  close(directory);
}

}  // namespace

Result<int> serve(MountOptions const& options, ServeHooks const& hooks) {
  // The kernel accepts a file as mount point too, but we serve a directory.
  struct stat place {};
  if (::stat(options.directory.c_str(), &place) == 0 && !S_ISDIR(place.st_mode))
    return Error::invalid("the mount point is not a directory").as(ENOTDIR).in(options.directory);
  if (options.foreground) {
    Parent nobody(-1);
    return run_server(options, hooks, nobody);
  }
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Error::io("cannot create a pipe", errno);
  pid_t const child = fork();
  if (child < 0) return Error::io("cannot start the server", errno);
  if (child == 0) {
    close(ends[0]);
    setsid();
    if (chdir("/") != 0) _exit(1);
    Parent parent(ends[1]);
    auto const result = run_server(options, hooks, parent);
    if (!result && !parent.failed(result.error())) log(Level::kError, result.error().text());
    _exit(result ? *result : 1);
  }
  close(ends[1]);
  std::string answer;
  char buffer[4096];
  for (;;) {
    ssize_t const n = read(ends[0], buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    answer.append(buffer, static_cast<std::size_t>(n));
  }
  close(ends[0]);
  if (answer == "R") {
    teach_kernel(options);
    return 0;
  }
  if (answer.starts_with('E')) return Error::io(answer.substr(1));
  return Error::io("the server exited before the mount was ready").in(options.store);
}

}  // namespace lcfs::mount
