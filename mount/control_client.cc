// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/fd.h"
#include "mount/control.h"
#include "mount/control_socket.h"
#include "mount/control_wire.h"

namespace lcfs::mount {
namespace {

constexpr auto kSendPatience = std::chrono::seconds(30);
constexpr int kPollMs = 100;  // delay until a stop is noticed that came just before the wait

Error gone(std::string const& socket) {
  return Error::io("the mount's server exited before it answered").in(socket);
}

struct Server {
  Fd socket{};  // invalid: no server listens
  bool denied = false;
};

Result<Server> connect_to(std::string const& path, uid_t owner) {
  Server server;
  auto const address = socket_address(path);
  if (!address) return server;  // no such directory
  Fd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (!socket) return Error::io("cannot create a socket", errno).in(path);
  int done = 0;
  do {
    done = ::connect(socket.get(), address->get(), sizeof address->address);
  } while (done != 0 && errno == EINTR);
  if (done != 0) {
    server.denied = errno == EACCES || errno == EPERM;
    return server;  // any other error: no server, whatever is at the path
  }
  // Our descriptors go only to root, to our own user and, if we are root, to the store's owner.
  auto const peer = peer_of(socket.get());
  if (peer && (peer->uid == 0 || peer->uid == geteuid() || (geteuid() == 0 && peer->uid == owner)))
    server.socket = std::move(socket);
  return server;
}

// The caller's descriptors, with /dev/null in place of closed ones, and its working directory.
class Passed {
 public:
  static Result<Passed> collect(ControlDescriptors const& given) {
    Passed passed;
    passed.all_ = {given.in, given.out, given.err, -1};
    for (int& fd : passed.all_)
      if (fd < 0 || ::fcntl(fd, F_GETFD) < 0) fd = -1;  // before an open(2) can reuse its number
    passed.cwd_ = open_fd(".", O_PATH | O_DIRECTORY);
    if (!passed.cwd_) return Error::io("cannot open the working directory", errno).in(".");
    passed.null_ = open_fd("/dev/null", O_RDWR);
    if (!passed.null_) return Error::io("cannot open", errno).in("/dev/null");
    for (int& fd : passed.all_)
      if (fd < 0) fd = passed.null_.get();
    passed.all_.back() = passed.cwd_.get();
    return passed;
  }
  [[nodiscard]] std::span<int const> all() const { return all_; }

 private:
  Fd cwd_{}, null_{};
  std::array<int, kControlDescriptors> all_{};
};

// Waits until the answer begins to arrive.  Passes on a request to stop once, and then still waits
// for the answer.
void wait_for_answer(int socket, std::atomic<bool> const* stop) {
  bool passed_on = false;
  for (;;) {
    if (!passed_on && stop != nullptr && *stop) {
      ::shutdown(socket, SHUT_WR);
      passed_on = true;
    }
    pollfd wanted{socket, POLLIN, 0};
    int const ready = ::poll(&wanted, 1, stop != nullptr && !passed_on ? kPollMs : -1);
    if (ready > 0 || (ready < 0 && errno != EINTR)) return;
  }
}

Result<ControlAnswer> receive_answer(int socket, std::string const& path) {
  auto const deadline = ControlClock::now() + kSendPatience;
  Incoming none;
  std::array<std::byte, kControlHeader> bytes{};
  if (receive_all(socket, bytes, none, deadline) != Received::kAll) return gone(path);
  LCFS_TRY_ASSIGN(auto const head, decode_head(bytes));
  std::vector<std::byte> payload(head.length);
  if (receive_all(socket, payload, none, deadline) != Received::kAll) return gone(path);
  return decode_answer(payload);
}

Errc code_of(ControlRefusal refusal) {
  switch (refusal) {
    case ControlRefusal::kMalformed:
    case ControlRefusal::kVersion: return Errc::kUnsupported;
    default: return Errc::kBusy;
  }
}

}  // namespace

Result<std::optional<int>> control_call(std::vector<std::string> const& sockets, uid_t owner,
                                        ControlCommand const& command,
                                        ControlDescriptors const& descriptors,
                                        std::atomic<bool> const* stop) {
  bool denied = false;
  LCFS_TRY_ASSIGN(auto const passed, Passed::collect(descriptors));
  for (auto const& path : sockets) {
    LCFS_TRY_ASSIGN(auto const server, connect_to(path, owner));
    denied |= server.denied;
    if (!server.socket) continue;
    LCFS_TRY_ASSIGN(auto const message, encode_command(command));
    // If a server refuses the connection at once, this can fail; its answer is there all the same.
    send_all(server.socket.get(), message, passed.all(), ControlClock::now() + kSendPatience);
    wait_for_answer(server.socket.get(), stop);
    LCFS_TRY_ASSIGN(auto const reply, receive_answer(server.socket.get(), path));
    if (reply.refusal != ControlRefusal::kNone)
      return Error{.code = code_of(reply.refusal), .message = reply.text};
    return std::optional<int>{reply.exit_code};
  }
  if (denied)
    return Error::busy(
        "mounted by another user; its server accepts commands only from that user and root");
  return std::optional<int>{};
}

}  // namespace lcfs::mount
