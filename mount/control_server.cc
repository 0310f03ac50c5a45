// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <list>
#include <system_error>
#include <thread>

#include "base/fd.h"
#include "base/sync.h"
#include "mount/control.h"
#include "mount/control_socket.h"
#include "mount/control_wire.h"

namespace lcfs::mount {
namespace {

constexpr auto kAnswerPatience = std::chrono::seconds(5);  // for a client to receive its answer
// Until accept(2) is tried again without free descriptors.
constexpr auto kNoDescriptors = std::chrono::milliseconds(100);

// Creates the directory of the socket if needed, and makes sure that it is ours alone: a process
// that can replace the socket gets our clients' descriptors.
Status prepare_directory(std::string const& socket) {
  auto const directory = socket.substr(0, socket.rfind('/') + 1);
  if (directory.empty()) return Error::invalid("not an absolute path").in(socket);
  mode_t const mode = directory == "/run/lcfs/" ? 0755 : 0700;
  if (::mkdir(directory.c_str(), mode) != 0 && errno != EEXIST)
    return Error::io("cannot create the control-socket directory", errno).in(directory);
  Fd const opened =
      open_fd(directory.substr(0, directory.size() - 1), O_PATH | O_DIRECTORY | O_NOFOLLOW);
  struct stat st {};
  if (!opened || ::fstat(opened.get(), &st) != 0)
    return Error::io("cannot open the control-socket directory", errno).in(directory);
  if (st.st_uid != geteuid() || (st.st_mode & 022) != 0)
    return Error::invalid(
               "unsafe control-socket directory: it must be owned by this user and not writable by "
               "others")
        .in(directory);
  return Ok{};
}

Result<Fd> try_bind(std::string const& path) {
  Fd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!socket) return Error::io("cannot create a socket", errno).in(path);
  LCFS_TRY_ASSIGN(auto const address, socket_address(path));
  (void)::fchmod(socket.get(), 0600);  // bind(2) gives the file this mode
  if (::bind(socket.get(), address.get(), sizeof address.address) != 0 ||
      ::listen(socket.get(), 16) != 0)
    return Error::io("cannot listen", errno).in(path);
  return socket;
}

bool is_listening(std::string const& path) {
  Fd const socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  auto const address = socket_address(path);
  if (!socket || !address) return false;
  return ::connect(socket.get(), address->get(), sizeof address->address) == 0 ||
         errno == EAGAIN;  // EAGAIN: its queue is full
}

Result<Fd> listen_at(std::string const& path) {
  LCFS_TRY(prepare_directory(path));
  auto socket = try_bind(path);
  if (socket || socket.error().sys != EADDRINUSE) return socket;
  if (is_listening(path))
    return Error::busy(
               "another server of this store listens here; unmount it, or mount with control=no")
        .in(path);
  ::unlink(path.c_str());  // left by a server that died: we hold the store's lock
  return try_bind(path);
}

bool root_and_us(uid_t uid) { return uid == 0 || uid == geteuid(); }

struct Connection {
  Fd socket{};
  ControlRequest request{};
  std::thread thread{};
  ControlClock::time_point since = ControlClock::now();
  enum class Stage : std::uint8_t { kReceiving, kAnswering, kSentAway };
  Stage stage = Stage::kReceiving;  // guarded by the server's lock
  bool asked = false;               // to stop; used only by the accepting thread
  std::atomic<bool> done{false};
};

void answer(int socket, ControlAnswer const& text) {
  send_all(socket, encode_answer(text), {}, ControlClock::now() + kAnswerPatience);
}

ControlAnswer refusal(ControlRefusal why, std::string text) {
  return ControlAnswer{1, why, std::move(text)};
}

}  // namespace

struct ControlServer::Impl {
  Impl(ControlServerOptions wanted, Runner runner)
      : options(std::move(wanted)), run(std::move(runner)) {}

  // Constant after start().
  ControlServerOptions options;
  Runner run;
  Fd listener{}, wake{};
  struct stat bound {};  // the socket's file, so that no other one is removed
  std::thread accepter{};

  Fd waiting{};  // accepted, but without room yet; used only by the accepting thread

  mutable Mutex mu;
  std::list<Connection> connections
      LCFS_GUARDED_BY(mu);  // the accepting thread alone adds and removes
  Counts counts LCFS_GUARDED_BY(mu);
  bool stopping LCFS_GUARDED_BY(mu) = false;

  void notify() const {
    std::uint64_t const one = 1;
    (void)!::write(wake.get(), &one, sizeof one);
  }

  // The accepting thread.

  void accept_all() {
    while (!is_stopping()) {
      wait_for_events();
      reap();
      if (waiting) take(std::move(waiting));
      if (!waiting) accept_some();
    }
    refuse_waiting();
    while (running() != 0) {
      wait_for_events();
      reap();
    }
  }

  bool is_stopping() const {
    Lock const lock(mu);
    return stopping;
  }

  std::size_t running() const {
    Lock const lock(mu);
    return connections.size();
  }

  // Waits until a client connects or disconnects, a command begins or ends, an idle client can be
  // disconnected, or the server stops.
  void wait_for_events() {
    std::vector<pollfd> wanted{{wake.get(), POLLIN, 0}, {listener.get(), POLLIN, 0}};
    std::vector<Connection*> watched;
    int timeout = -1;
    {
      Lock const lock(mu);
      if (stopping || waiting) wanted[1].fd = -1;
      if (auto const idle = longest_idle(); waiting && idle != connections.end()) {
        auto const left = std::chrono::ceil<std::chrono::milliseconds>(idle->since + options.grace -
                                                                       ControlClock::now());
        timeout = static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 60'000));
      }
      for (auto& connection : connections) {
        if (connection.asked || connection.done) continue;
        wanted.push_back({connection.socket.get(), POLLRDHUP, 0});
        watched.push_back(&connection);
      }
    }
    if (::poll(wanted.data(), wanted.size(), timeout) < 0) return;
    std::uint64_t count = 0;
    (void)!::read(wake.get(), &count, sizeof count);
    for (std::size_t i = 0; i < watched.size(); ++i) {
      if ((wanted[i + 2].revents & (POLLRDHUP | POLLHUP | POLLERR)) == 0) continue;
      watched[i]->asked = true;
      watched[i]->request.stop = true;
    }
  }

  void reap() {
    std::list<Connection> ended;
    {
      Lock const lock(mu);
      for (auto at = connections.begin(); at != connections.end();) {
        auto const here = at++;
        if (here->done) ended.splice(ended.end(), connections, here);
      }
    }
    for (auto& connection : ended) connection.thread.join();
  }

  void accept_some() {
    for (;;) {
      Fd socket{::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
      if (!socket) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
          std::this_thread::sleep_for(kNoDescriptors);  // the client stays in the queue
        if (errno != ECONNABORTED && errno != EINTR) return;
        continue;
      }
      take(std::move(socket));
      if (waiting) return;
    }
  }

  void refuse_waiting() {
    if (Fd const socket = std::move(waiting))
      refuse(socket.get(), ControlRefusal::kStopping, "the store is being unmounted");
    for (;;) {
      Fd const socket{::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
      if (!socket) return;
      refuse(socket.get(), ControlRefusal::kStopping, "the store is being unmounted");
    }
  }

  void refuse(int socket, ControlRefusal why, std::string text) {
    answer(socket, refusal(why, std::move(text)));
    Lock const lock(mu);
    ++counts.refused;
  }

  // The list is in order of arrival.
  std::list<Connection>::iterator longest_idle() LCFS_REQUIRES(mu) {
    return std::find_if(connections.begin(), connections.end(), [](Connection const& one) {
      return one.stage == Connection::Stage::kReceiving;
    });
  }

  enum class Room : std::uint8_t { kNow, kSoon, kNone };

  // Makes room for another connection.  Running commands stay; a client that had time to send its
  // request and did not is disconnected.
  Room make_room() {
    std::list<Connection> sent_away;
    {
      Lock const lock(mu);
      if (connections.size() < options.connections) return Room::kNow;
      auto const idle = longest_idle();
      if (idle == connections.end()) return Room::kNone;
      if (idle->since + options.grace > ControlClock::now()) return Room::kSoon;
      idle->stage = Connection::Stage::kSentAway;
      ::shutdown(idle->socket.get(), SHUT_RDWR);  // wakes its thread
      sent_away.splice(sent_away.end(), connections, idle);
    }
    sent_away.front().thread.join();
    return Room::kNow;
  }

  void take(Fd socket) {
    auto const peer = peer_of(socket.get());
    bool const allowed =
        peer && (options.allow ? options.allow(peer->uid) : root_and_us(peer->uid));
    if (!allowed)
      return refuse(
          socket.get(), ControlRefusal::kNotAllowed,
          fmt::format("the server accepts commands only from root and its own user (uid {})",
                      geteuid()));
    auto const room = make_room();
    if (room == Room::kNone && is_stopping())
      return refuse(socket.get(), ControlRefusal::kStopping, "the store is being unmounted");
    if (room == Room::kSoon) {
      waiting = std::move(socket);
      return;
    }
    if (room == Room::kNone)
      return refuse(
          socket.get(), ControlRefusal::kTooMany,
          fmt::format("the server is already running {} commands; try again", options.connections));
    std::list<Connection> fresh(1);
    auto& connection = fresh.front();
    connection.socket = std::move(socket);
    connection.request.pid = peer->pid;
    connection.request.uid = peer->uid;
    Lock const lock(mu);
    if (stopping)
      return answer(connection.socket.get(),
                    refusal(ControlRefusal::kStopping, "the store is being unmounted"));
    try {
      connection.thread = std::thread([this, &connection] { serve(connection); });
    } catch (std::system_error const&) {
      ++counts.refused;
      answer(connection.socket.get(),
             refusal(ControlRefusal::kTooMany, "the server cannot start a thread; try again"));
      return;
    }
    connections.splice(connections.end(), fresh);
  }

  // A connection's own thread.

  void serve(Connection& connection) {
    auto text = receive(connection);
    if (!may_answer(connection)) text.reset();
    if (text && text->refusal == ControlRefusal::kNone) text = run_there(connection.request);
    {
      Lock const lock(mu);  // first, so that a client with an answer has been counted
      ++(!text                                    ? counts.dropped
         : text->refusal == ControlRefusal::kNone ? counts.commands
                                                  : counts.refused);
    }
    if (text) answer(connection.socket.get(), *text);
    ::shutdown(connection.socket.get(),
               SHUT_RDWR);  // closed by the accepting thread, which can be polling it
    connection.done = true;
    notify();
  }

  // False: the client was disconnected meanwhile.
  bool may_answer(Connection& connection) {
    {
      Lock const lock(mu);
      if (connection.stage == Connection::Stage::kSentAway) return false;
      connection.stage = Connection::Stage::kAnswering;
    }
    notify();  // one client fewer can be disconnected: somebody may wait for that
    return true;
  }

  // nullopt: there is no client to answer.  An answer without a refusal: the request is complete.
  std::optional<ControlAnswer> receive(Connection& connection) {
    int const socket = connection.socket.get();
    auto const deadline = ControlClock::now() + options.patience;
    auto& request = connection.request;
    Incoming incoming;
    std::array<std::byte, kControlHeader> head{};
    if (receive_all(socket, std::span{head}.first(1), incoming, deadline) != Received::kAll)
      return std::nullopt;
    bool const on_first_byte =
        incoming.descriptors.size() == kControlDescriptors && !incoming.too_many;
    if (receive_all(socket, std::span{head}.subspan(1), incoming, deadline) != Received::kAll)
      return std::nullopt;
    auto const known = decode_head(head);
    if (!known)
      return refusal(known.error().code == Errc::kUnsupported ? ControlRefusal::kVersion
                                                              : ControlRefusal::kMalformed,
                     known.error().message);
    std::vector<std::byte> payload(known->length);
    if (receive_all(socket, payload, incoming, deadline) != Received::kAll) return std::nullopt;
    if (!on_first_byte || incoming.descriptors.size() != kControlDescriptors || incoming.too_many)
      return refusal(
          ControlRefusal::kMalformed,
          fmt::format("control message: {}{} descriptors; expected {}", incoming.descriptors.size(),
                      incoming.too_many ? " or more" : "", kControlDescriptors));
    auto command = decode_command(payload);
    if (!command) return refusal(ControlRefusal::kMalformed, command.error().message);
    request.command = *std::move(command);
    request.in = std::move(incoming.descriptors[0]);
    request.out = std::move(incoming.descriptors[1]);
    request.err = std::move(incoming.descriptors[2]);
    request.cwd = std::move(incoming.descriptors[3]);
    return ControlAnswer{};
  }

  // Runs the command in the client's working directory and with its umask, which are those of this
  // thread and of threads that it starts.
  ControlAnswer run_there(ControlRequest& request) {
    if (::unshare(CLONE_FS) != 0 || ::fchdir(request.cwd.get()) != 0)
      return refusal(ControlRefusal::kMalformed,
                     fmt::format("control message: cannot enter the client's directory: {}",
                                 error_text(errno)));
    ::umask(request.command.umask);
    ControlAnswer ran{run(request), ControlRefusal::kNone, {}};
    // A reader of the client's output must see end of file when the client exits.
    for (Fd* fd : {&request.in, &request.out, &request.err, &request.cwd}) *fd = Fd{};
    return ran;
  }

  static std::string error_text(int sys) { return Error::io({}, sys).text(); }
};

ControlServer::ControlServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<ControlServer>> ControlServer::start(ControlServerOptions options,
                                                            Runner run) {
  auto impl = std::make_unique<Impl>(std::move(options), std::move(run));
  LCFS_TRY_ASSIGN(impl->listener, listen_at(impl->options.socket));
  impl->wake = Fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  bool const known = ::lstat(impl->options.socket.c_str(), &impl->bound) == 0;
  if (!impl->wake || !known) {
    ::unlink(impl->options.socket.c_str());
    return Error::io("cannot start the control server", errno).in(impl->options.socket);
  }
  // Other threads handle the signals.  No thread handles SIGPIPE: a broken pipe is an error of its
  // client only.
  sigset_t all{}, before{};
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  impl->accepter = std::thread([&server = *impl] { server.accept_all(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return std::unique_ptr<ControlServer>(new ControlServer(std::move(impl)));
}

ControlServer::~ControlServer() { stop(); }

void ControlServer::stop() {
  {
    Lock const lock(impl_->mu);
    if (impl_->stopping) return;
    impl_->stopping = true;
    struct stat now {};
    auto const& path = impl_->options.socket;
    if (::lstat(path.c_str(), &now) == 0 && now.st_dev == impl_->bound.st_dev &&
        now.st_ino == impl_->bound.st_ino)
      ::unlink(path.c_str());
    for (auto& connection : impl_->connections) {
      connection.request.stop = true;
      ::shutdown(connection.socket.get(),
                 SHUT_RD);  // what a client has not sent yet is not read
    }
  }
  impl_->notify();
  impl_->accepter.join();
}

ControlServer::Counts ControlServer::counts() const {
  Lock const lock(impl_->mu);
  auto counts = impl_->counts;
  counts.running = impl_->connections.size();
  return counts;
}

std::string const& ControlServer::socket() const { return impl_->options.socket; }

std::optional<std::string> ControlRequest::variable(std::string_view name) const {
  for (auto const& [known, value] : command.variables)
    if (known == name) return value;
  return std::nullopt;
}

}  // namespace lcfs::mount
