// SPDX-License-Identifier: Apache-2.0
#include "mount/control_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/fd.h"

namespace lcfs::mount {
namespace {

constexpr std::size_t kMostDescriptors = 8;  // accepted with one message

// Waits for `events`, or an event that ends all waiting.  False: the deadline has passed.
bool wait_for(int socket, short events, ControlClock::time_point deadline) {
  for (;;) {
    auto const left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - ControlClock::now())
            .count();
    if (left <= 0) return false;
    pollfd wanted{socket, events, 0};
    int const ready = ::poll(&wanted, 1, static_cast<int>(std::min<long long>(left + 1, 60'000)));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

void take_descriptors(msghdr& message, Incoming& incoming) {
  for (auto* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    std::size_t const count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
      incoming.descriptors.emplace_back(fd);
    }
  }
  if ((message.msg_flags & MSG_CTRUNC) != 0) incoming.too_many = true;
}

}  // namespace

Result<SocketAddress> socket_address(std::string const& path) {
  SocketAddress made;
  made.address.sun_family = AF_UNIX;
  auto name = path;
  if (name.size() >= sizeof made.address.sun_path) {
    auto const slash = path.rfind('/');
    made.directory =
        open_fd(slash == std::string::npos ? "." : path.substr(0, slash + 1), O_PATH | O_DIRECTORY);
    if (!made.directory) return Error::io("cannot open its directory", errno).in(path);
    name = fmt::format("/proc/self/fd/{}/{}", made.directory.get(), path.substr(slash + 1));
    if (name.size() >= sizeof made.address.sun_path)
      return Error::invalid("the name is too long for a socket").in(path);
  }
  std::memcpy(made.address.sun_path, name.c_str(), name.size() + 1);
  return made;
}

std::optional<ucred> peer_of(int socket) {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return std::nullopt;
  return peer;
}

bool send_all(int socket, std::string_view bytes, std::span<int const> descriptors,
              ControlClock::time_point deadline) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMostDescriptors * sizeof(int))> control{};
  descriptors = descriptors.first(std::min(descriptors.size(), kMostDescriptors));
  while (!bytes.empty()) {
    iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!descriptors.empty()) {
      message.msg_control = control.data();
      message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
      auto* const rights = CMSG_FIRSTHDR(&message);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(descriptors.size_bytes());
      std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size_bytes());
    }
    ssize_t const sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) {
      if (!wait_for(socket, POLLOUT, deadline)) return false;
      continue;
    }
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
    descriptors = {};
  }
  return true;
}

Received receive_all(int socket, std::span<std::byte> into, Incoming& incoming,
                     ControlClock::time_point deadline) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMostDescriptors * sizeof(int))> control{};
  while (!into.empty()) {
    if (!wait_for(socket, POLLIN, deadline)) return Received::kTooLate;
    iovec part{into.data(), into.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    ssize_t const got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0) return Received::kGone;
    take_descriptors(message, incoming);
    if (got == 0) return Received::kGone;
    into = into.subspan(static_cast<std::size_t>(got));
  }
  return Received::kAll;
}

}  // namespace lcfs::mount
